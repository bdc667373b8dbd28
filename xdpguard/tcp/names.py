# SPDX-License-Identifier: GPL-2.0
"""TCP states, numbered as in the kernel and named as in RFC 9293."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xdpguard.errors import UsageError

# include/net/tcp_states.h; 12 is a request socket, which sock_diag reports as SYN_RECV.
STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)
ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
# The states in which a socket can be found, in the order of a connection's life.
SHOWN = (
    LISTEN,
    SYN_SENT,
    SYN_RECV,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    CLOSING,
    TIME_WAIT,
    CLOSE_WAIT,
    LAST_ACK,
)
ALL_STATES = (1 << len(STATES)) - 1

# Names other tools use.
_ALSO = {"ESTAB": "ESTABLISHED", "CLOSED": "CLOSE", "SYN_RECEIVED": "SYN_RECV", "LISTENING": "LISTEN"}


def parse_states(texts: Iterable[str]) -> int:
    """Parse state names, each text holding one or several with commas; return a bit set, all states if there are none.

    Accepts ``fin-wait-1``, ``FIN_WAIT1`` and ``estab``. Raises UsageError for an unknown name.
    """
    bits = 0
    for name in (part for text in texts for part in text.split(",")):
        plain = re.sub(r"WAIT_([12])$", r"WAIT\1", name.strip().upper().replace("-", "_"))
        plain = _ALSO.get(plain, plain)
        if plain not in STATES[1:12]:
            known = ", ".join(STATES[number] for number in (*SHOWN, CLOSE))
            raise UsageError(f"not a TCP state: {name[:40]!r}", f"there are: {known}")
        bits |= 1 << STATES.index(plain)
    return bits or ALL_STATES
