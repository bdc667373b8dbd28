# SPDX-License-Identifier: GPL-2.0
"""Values of ``[api]``: which combinations are safe."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator

from xdpguard.errors import UsageError
from xdpguard.policy.api import Api
from xdpguard.policy.metrics import Address, parse_listen

_LONGEST_SOCKET = 107  # bytes of a Unix socket's path, unix(7)
_FILES = ("socket", "token_file", "cert", "key")


def api_faults(api: Api) -> Iterator[tuple[str, UsageError]]:
    """Yield the key and error of each value of ``[api]`` that has the right type but is invalid."""
    for name in _FILES:
        path = getattr(api, name)
        if path and (not path.startswith("/") or "\0" in path):
            yield name, UsageError(f"not an absolute path: {path[:60]!r}", "write the whole path, from / on")
    if len(os.fsencode(api.socket)) > _LONGEST_SOCKET:
        yield "socket", UsageError("too long", f"a socket's path has at most {_LONGEST_SOCKET} bytes")
    try:
        address = parse_listen(api.listen)
    except UsageError as error:
        yield "listen", error
        return
    if address is None:
        for name in ("token_file", "cert", "key"):
            if getattr(api, name):
                yield name, UsageError("without listen", "it is for TCP alone: set listen, or leave it out")
    else:
        yield from _unsafe(api, address)


def _unsafe(api: Api, address: Address) -> Iterator[tuple[str, UsageError]]:
    if not api.token_file:
        yield (
            "listen",
            UsageError("without token_file", "whoever reaches the port could change rules: name a file with a token"),
        )
    if bool(api.cert) != bool(api.key):
        given, missing = ("cert", "key") if api.cert else ("key", "cert")
        yield given, UsageError(f"without {missing}", "TLS needs both: a certificate and its key")
    if not api.cert and not ipaddress.ip_address(address.host).is_loopback:
        yield (
            "listen",
            UsageError(
                f"{address.host} is not a loopback address, and there is no cert",
                "the token would be sent in clear text: set cert and key, or listen at 127.0.0.1",
            ),
        )
