# SPDX-License-Identifier: GPL-2.0
"""Remote logins, from the records that a login leaves once it is authenticated.

A TCP connection to an SSH port proves nothing: anyone can hold one open. systemd-logind and utmp learn of a session
from PAM and sshd only after the user has authenticated.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from xdpguard.errors import UsageError
from xdpguard.policy.target import Prefix, parse_prefix

_SESSIONS = Path("/run/systemd/sessions")
_UTMP = Path("/run/utmp")
_REMOTE_HOST = re.compile(r"^REMOTE_HOST=\"?([0-9A-Fa-f.:]+)", re.MULTILINE)
# struct utmp in glibc's x86-64 layout: ut_type at 0, ut_addr_v6 at 348. A file with records of another size is not
# read; logind's sessions are the same everywhere.
_RECORD = 384
_ADDRESS = struct.Struct("16s")
_ADDRESS_AT = 348
_USER_PROCESS = 7  # utmp(5)


def remote_logins() -> dict[Prefix, str]:
    """Return the addresses from which somebody has logged in and, by the record named, still is."""
    return dict.fromkeys(_of_utmp(), "a login record in utmp") | dict.fromkeys(
        _of_logind(), "a session of systemd-logind"
    )


def _of_logind() -> Iterator[Prefix]:
    """Read the files that sd_session_get_remote_host(3) reads, skipping the session pipes beside them."""
    try:
        files = [path for path in _SESSIONS.iterdir() if path.is_file()]
    except OSError:
        return
    for path in files:
        try:
            found = _REMOTE_HOST.search(path.read_text(encoding="utf-8", errors="replace"))
            if found:
                yield parse_prefix(found[1])[0]
        except (OSError, UsageError):  # session ended meanwhile, or sshd recorded a resolved name
            continue


def _of_utmp() -> Iterator[Prefix]:
    try:
        data = _UTMP.read_bytes()
    except OSError:
        return
    if len(data) % _RECORD:
        return
    for start in range(0, len(data), _RECORD):
        (kind,) = struct.unpack_from("=h", data, start)
        (packed,) = _ADDRESS.unpack_from(data, start + _ADDRESS_AT)
        if kind == _USER_PROCESS and any(packed):
            # An IPv4 address occupies the first of the four words.
            text = socket.inet_ntop(socket.AF_INET6, packed) if any(packed[4:]) else socket.inet_ntoa(packed[:4])
            yield parse_prefix(text)[0]
