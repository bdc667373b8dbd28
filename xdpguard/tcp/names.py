# SPDX-License-Identifier: GPL-2.0
"""TCP's states, as the kernel numbers and RFC 9293 names them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xdpguard.errors import UsageError

# include/net/tcp_states.h; 12 is a request that is no socket yet, which sock_diag tells as SYN_RECV.
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
# Those a socket can be found in, in the order of a connection's life.
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
    """Parses names of states, several in one text with commas; returns them as bits, all of them when there is none.

    ``fin-wait-1``, ``FIN_WAIT1`` and ``estab`` are understood. UsageError for an unknown one.
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
