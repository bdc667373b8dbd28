# SPDX-License-Identifier: GPL-2.0
"""``[api]``: the HTTP API of ``run``."""

from __future__ import annotations

from msgspec import Struct


class Api(Struct, frozen=True, forbid_unknown_fields=True):
    """``[api]``: where ``run`` serves the commands over HTTP; nowhere by default. Paths are absolute.

    ``socket``: a Unix socket, for root only. ``listen``: address:port, or ``off``; every request must then carry the
    token of ``token_file``, and beyond loopback ``cert`` and ``key`` (PEM) are needed for TLS.
    """

    socket: str = ""
    listen: str = "off"
    token_file: str = ""
    cert: str = ""
    key: str = ""
