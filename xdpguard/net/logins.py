# SPDX-License-Identifier: GPL-2.0
"""Who is logged in over the network, by the records that a login leaves once it has been authenticated.

A TCP connection to an SSH port proves nothing: anybody can hold one open. systemd-logind and utmp hear of a session
from PAM and sshd only after the user has proved who they are.
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
# struct utmp as glibc lays it out on x86-64: ut_type at 0, ut_addr_v6 at 348. A file of records of another size is not
# read; logind's sessions are the same everywhere.
_RECORD = 384
_ADDRESS = struct.Struct("16s")
_ADDRESS_AT = 348
_USER_PROCESS = 7  # utmp(5)


def remote_logins() -> set[Prefix]:
    """Addresses from which somebody has logged in and, as far as the records know, still is."""
    return {*_of_logind(), *_of_utmp()}


def _of_logind() -> Iterator[Prefix]:
    """The files that sd_session_get_remote_host(3) reads; those of sessions, not of the pipes beside them."""
    try:
        files = [path for path in _SESSIONS.iterdir() if path.is_file()]
    except OSError:
        return
    for path in files:
        try:
            found = _REMOTE_HOST.search(path.read_text(encoding="utf-8", errors="replace"))
            if found:
                yield parse_prefix(found[1])[0]
        except (OSError, UsageError):  # ended meanwhile, or a name where sshd resolves them
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
            # An IPv4 address takes the first of its four words.
            text = socket.inet_ntop(socket.AF_INET6, packed) if any(packed[4:]) else socket.inet_ntoa(packed[:4])
            yield parse_prefix(text)[0]
