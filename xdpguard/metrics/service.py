# SPDX-License-Identifier: GPL-2.0
"""The figures as a part of the service: served and pushed as ``[metrics]`` says. Never raises, never waits long."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xdpguard.control.audit import Audit
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.metrics.collector import Collector
from xdpguard.metrics.server import Answer, Server
from xdpguard.metrics.status import Status, Taken
from xdpguard.policy.metrics import Address, parse_listen, shown
from xdpguard.policy.model import Metrics
from xdpguard.policy.target import parse_interval

if TYPE_CHECKING:
    from xdpguard.metrics.otlp import Pusher
    from xdpguard.metrics.prometheus import Exposition

_log = logging.getLogger(__name__)

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_WHY = {
    errno.EADDRINUSE: ("in use", "name another one in [metrics] listen, or end who has it (ss -ltnp); then SIGHUP"),
    errno.EADDRNOTAVAIL: ("no address of this host", "name one that is in [metrics] listen; then SIGHUP"),
    errno.EACCES: ("not allowed", "name a port from 1024 on in [metrics] listen; then SIGHUP"),
}


class Service:
    """Belongs to the loop's thread; what it starts asks the collector from theirs."""

    def __init__(self, pins: Pins, store: Path) -> None:
        """``store``: the instance's file of rules."""
        self.status = Status()
        self._name = store.parent.name
        self._collector = Collector(pins, store, self.status)
        self._wanted: Metrics | None = None
        self._exposition: Exposition | None = None
        self._server: Server | None = None
        self._served = ""  # what it was told: another than is wanted now, where that could not be had
        self._pusher: Pusher | None = None

    def apply(self, wanted: Metrics) -> None:
        """Does what the configuration says from here on; what cannot be done is logged, and what was before stays."""
        before, self._wanted = self._wanted, wanted
        self._collector.top = wanted.top
        self._collector.tcp.wanted = wanted.tcp
        if self._server is None or self._served != wanted.listen:
            self._listen(wanted.listen)
        if before is None or (before.otlp, before.otlp_interval) != (wanted.otlp, wanted.otlp_interval):
            self._push(wanted)
        if self._server is None and self._pusher is None:
            self._collector.rest()

    def tick(self, mode: str, audit: Audit | None, audited: float, awaited: Sequence[str] = ()) -> None:
        """The loop went round. ``mode`` of the guard; the last audit, when it was (Unix time); what is waited for."""
        self.status.mode = mode
        self.status.awaited = tuple(awaited)
        if audit is None:
            self.status.audit = None
        elif self.status.audit is None or self.status.audit.audit is not audit:
            self.status.audit = Taken(audit, audited)
        self.status.ticked = time.monotonic()

    def reloaded(self, taken: bool) -> None:
        """A configuration was read again, and taken or not."""
        self.status.reload_ok = taken
        if taken:
            self.status.reloaded = time.time()

    def close(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self._server.stop()
        if self._pusher is not None:
            self._pusher.stop()
        self._server, self._pusher = None, None
        self._collector.close()

    def _listen(self, text: str) -> None:
        address = parse_listen(text)
        if address is None:
            if self._server is not None:
                self._server.stop()
                self._server = None
                _log.info("metrics are not served any more")
            return
        try:
            from xdpguard.metrics.prometheus import Exposition

            self._exposition = self._exposition or Exposition(self._collector)
            made = self._bound(address)
        except ImportError as error:
            _log.error(f"metrics are not served: {error}; pip install prometheus-client")
            return
        except OSError as error:
            why, remedy = _WHY.get(error.errno or 0, (error.strerror, "correct [metrics] listen; then SIGHUP"))
            stays = f"they stay at {self._server.address}; " if self._server else ""
            _log.error(f"metrics are not served at {address}: {why}; {stays}{remedy}")
            return
        if self._server is not None:
            self._server.stop()
        self._server, self._served = made, text
        made.start()
        _log.info(f"metrics: http://{made.address}/metrics")

    def _bound(self, address: Address) -> Server:
        """A server at an address. Where our own is in the way, as at 127.0.0.1 of what shall be 0.0.0.0, that ends.

        It comes back where somebody else is in the way, too.
        """
        try:
            return Server(address, self._answer)
        except OSError as error:
            ours = self._server
            if error.errno != errno.EADDRINUSE or ours is None or ours.address.port != address.port:
                raise
        ours.stop()
        self._server = None
        try:
            return Server(address, self._answer)
        except OSError:
            with contextlib.suppress(OSError):
                self._server = Server(ours.address, self._answer)
                self._server.start()
            raise

    def _push(self, wanted: Metrics) -> None:
        if self._pusher is not None:
            self._pusher.stop()
            self._pusher = None
        if not wanted.otlp:
            return
        try:
            from xdpguard.metrics.otlp import Pusher
        except ImportError as error:
            _log.error(
                f"metrics are not pushed: {error}; install xdpguard with the extra otlp ('.[otlp]' in place of '.'), or"
                " leave [metrics] otlp out"
            )
            return
        interval = parse_interval(wanted.otlp_interval)
        _log.info(f"metrics are pushed to {shown(wanted.otlp)} every {wanted.otlp_interval}")
        self._pusher = Pusher(self._collector, wanted.otlp, interval, self._name)

    def _answer(self, path: str, accept: str, encodings: str) -> Answer:
        try:
            return self._page(path, accept, encodings)
        except Exception as error:  # the service goes on, whatever it is
            _log.error(f"metrics: {path} could not be answered: {error}")
            return 500, _PLAIN, f"{error}\n".encode("utf-8", "replace")

    def _page(self, path: str, accept: str, encodings: str) -> Answer:
        if path == "/metrics":
            assert self._exposition is not None
            page = self._exposition.page(accept, encodings)
            return 200, page.headers, page.body
        if path == "/healthz":
            return _said(self.status.sick())
        if path == "/readyz":
            try:
                return _said(self.status.unready(self._collector.interfaces()))
            except Exception as error:  # not to know is not to be ready
                return _said(str(error) or type(error).__name__)
        return 404, _PLAIN, b"there are /metrics, /healthz and /readyz\n"


def _said(fault: str) -> Answer:
    return (503, _PLAIN, f"{fault}\n".encode()) if fault else (200, _PLAIN, b"ok\n")
