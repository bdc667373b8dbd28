# SPDX-License-Identifier: GPL-2.0
"""Values of ``[metrics]``: where to listen, where to push to, how often."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_within
from xdpguard.policy.model import Metrics

_INTERVAL = (1, 3600)  # seconds between two pushes
_OFF = ("", "off")
_LISTEN = re.compile(r"(?:\[([^]]+)\]|([^:\[\]]+)):([0-9]{1,5})")

_SECRET = re.compile(r"(?<=//).*@|\?.*", re.DOTALL)


class Address(NamedTuple):
    """An address to listen at: an IP address as text, and a TCP port; 0 for any free one."""

    host: str
    port: int

    @property
    def version(self) -> int:
        """The IP version: 4 or 6."""
        return ipaddress.ip_address(self.host).version

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.version == 6 else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address | None:
    """Parse ``127.0.0.1:9782`` or ``[::1]:9782``; return None if it is off.

    A port alone is rejected: listening on more than this host must be explicit.
    """
    if text.strip() in _OFF:
        return None
    match = _LISTEN.fullmatch(text.strip())
    try:
        if not match or int(match[3]) > 65_535 or "%" in text:
            raise ValueError
        host = ipaddress.ip_address(match[1] or match[2])
        if (host.version == 6) != bool(match[1]):
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"not an address and port: {text[:60]!r}",
            'write "127.0.0.1:9782" or "[::1]:9782", "0.0.0.0:9782" for every address of this host, "off" for none',
        ) from error
    return Address(str(host), int(match[3]))


def shown(url: str) -> str:
    """Return a URL that is safe to log: without user name, password and other potential secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def metrics_faults(metrics: Metrics) -> Iterator[tuple[str, UsageError]]:
    """Yield the key and error of each value of ``[metrics]`` that has the right type but is invalid."""
    try:
        parse_listen(metrics.listen)
    except UsageError as error:
        yield "listen", error
    if metrics.otlp and not _is_url(metrics.otlp):
        yield (
            "otlp",
            UsageError(
                f"not a URL: {_SECRET.sub('', metrics.otlp)[:80]!r}",
                'write "http://HOST:4318/v1/metrics", or "" for none',
            ),
        )
    try:
        parse_within(metrics.otlp_interval, *_INTERVAL)
    except UsageError as error:
        yield "otlp_interval", error


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # ValueError if it is not one
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)
