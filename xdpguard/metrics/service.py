# SPDX-License-Identifier: GPL-2.0
"""The metrics as part of the service: served and pushed as ``[metrics]`` says. Never raises, never waits long."""

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
from xdpguard.metrics.status import LastAudit, Status
from xdpguard.policy.duration import parse_interval
from xdpguard.policy.metrics import Address, parse_listen, shown
from xdpguard.policy.model import Metrics
from xdpguard.units import visible

if TYPE_CHECKING:
    from xdpguard.metrics.otlp import Pusher
    from xdpguard.metrics.prometheus import Exposition

_log = logging.getLogger(__name__)

_AGAIN = 2.0  # seconds after which to listen is tried again: an address may come up after the service
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_WHY = {
    errno.EADDRINUSE: (
        "in use",
        "set another address in [metrics] listen and send SIGHUP, or stop the process that uses it (ss -ltnp)",
    ),
    errno.EADDRNOTAVAIL: (
        "not an address of this host",
        "to use another, set it in [metrics] listen and send SIGHUP",
    ),
    errno.EACCES: ("not allowed", "set a port of 1024 or above in [metrics] listen; then send SIGHUP"),
}


class Service:
    """Belongs to the loop's thread; the threads it starts query the collector."""

    def __init__(self, pins: Pins, store: Path) -> None:
        """``store``: the instance's database file."""
        self.status = Status()
        self._name = store.parent.name
        self._collector = Collector(pins, store, self.status)
        self._wanted: Metrics | None = None
        self._exposition: Exposition | None = None
        self._server: Server | None = None
        self._hosts: tuple[str, ...] = ()
        self._served = ""  # the address in use: differs from the wanted one if that was unavailable
        self._pusher: Pusher | None = None
        self._again: float | None = None  # when to try again to listen, monotonic, s
        self._told = ""  # why the wanted address is not served, as it was logged

    def apply(self, wanted: Metrics) -> None:
        """Apply a configuration; log what cannot be done, and keep the previous state there."""
        before, self._wanted = self._wanted, wanted
        self._collector.top = wanted.top
        self._collector.tcp.wanted = wanted.tcp
        self._hosts = wanted.hosts
        self._again = None
        if self._server is not None:
            self._server.hosts = frozenset(name.lower() for name in wanted.hosts)
        if self._server is None or self._served != wanted.listen:
            self._told = ""
            self._listen(wanted.listen)
        if before is None or (before.otlp, before.otlp_interval) != (wanted.otlp, wanted.otlp_interval):
            self._push(wanted)
        if self._server is None and self._pusher is None:
            self._collector.rest()

    def tick(self, mode: str, audit: Audit | None, audited: float, awaited: Sequence[str] = ()) -> None:
        """Record a pass of the loop: the guard's mode, the last audit and its Unix time, and awaited interfaces."""
        self.status.mode = mode
        self.status.awaited = tuple(awaited)
        if audit is None:
            self.status.audit = None
        elif self.status.audit is None or self.status.audit.audit is not audit:
            self.status.audit = LastAudit(audit, audited)
        self.status.ticked = now = time.monotonic()
        if self._again is not None and now >= self._again and self._wanted is not None:
            self._listen(self._wanted.listen)

    def reloaded(self, taken: bool) -> None:
        """Record that a configuration was read again, and whether it was accepted."""
        self.status.reload_ok = taken
        if taken:
            self.status.reloaded = time.time()

    def close(self) -> None:
        """Stop everything."""
        if self._server is not None:
            self._server.stop()
        if self._pusher is not None:
            self._pusher.stop()
        self._server, self._pusher = None, None
        self._collector.close()

    def _listen(self, text: str) -> None:
        self._again = None
        address = parse_listen(text)
        if address is None:
            if self._server is not None:
                self._server.stop()
                self._server = None
                _log.info("metrics are no longer served")
            return
        try:
            from xdpguard.metrics.prometheus import Exposition

            self._exposition = self._exposition or Exposition(self._collector)
            made = self._bound(address)
        except ImportError as error:
            _log.error(f"metrics are not served: {error}; pip install prometheus-client")
            return
        except OSError as error:
            why, remedy = _WHY.get(error.errno or 0, (error.strerror, "correct [metrics] listen; then send SIGHUP"))
            # What is served meanwhile may be in the way, and is not stopped again and again to find out.
            if error.errno == errno.EADDRNOTAVAIL or self._server is None:
                self._again = time.monotonic() + _AGAIN
            stays = f"still at {self._server.address}; " if self._server else ""
            tried = "; it is tried again until it works" if self._again is not None else ""
            self._tell(f"metrics are not served at {address}: {why}; {stays}{remedy}{tried}")
            return
        if self._server is not None:
            self._server.stop()
        self._server, self._served = made, text
        made.start()
        _log.info(f"metrics: http://{made.address}/metrics")

    def _tell(self, text: str) -> None:
        """Log why the wanted address is not served, unless that was said."""
        if text != self._told:
            self._told = text
            _log.error(text)

    def _bound(self, address: Address) -> Server:
        """Bind a server to an address, first stopping our own if it is in the way (127.0.0.1 against 0.0.0.0).

        If another process is in the way as well, our own is started again.
        """
        try:
            return Server(address, self._answer, self._hosts)
        except OSError as error:
            ours = self._server
            if error.errno != errno.EADDRINUSE or ours is None or ours.address.port != address.port:
                raise
        ours.stop()
        self._server = None
        try:
            return Server(address, self._answer, self._hosts)
        except OSError:
            with contextlib.suppress(OSError):
                self._server = Server(ours.address, self._answer, self._hosts)
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
                f"metrics are not pushed: {error}; install xdpguard with the extra otlp ('.[otlp]' instead of '.'), or"
                " remove [metrics] otlp"
            )
            return
        interval = parse_interval(wanted.otlp_interval)
        _log.info(f"metrics are pushed to {shown(wanted.otlp)} every {wanted.otlp_interval}")
        self._pusher = Pusher(self._collector, wanted.otlp, interval, self._name)

    def _answer(self, path: str, accept: str, encodings: str) -> Answer:
        try:
            return self._page(path, accept, encodings)
        except Exception as error:  # the service continues, whatever it is
            _log.error(f"metrics: {path} could not be answered: {error}")
            return 500, _PLAIN, f"{visible(str(error))}\n".encode()

    def _page(self, path: str, accept: str, encodings: str) -> Answer:
        if path == "/metrics":
            assert self._exposition is not None
            page = self._exposition.page(accept, encodings)
            return 200, page.headers, page.body
        if path == "/healthz":
            return _health(self.status.unhealthy())
        if path == "/readyz":
            try:
                return _health(self.status.unready(self._collector.interfaces()))
            except Exception as error:  # unknown counts as not ready
                return _health(str(error) or type(error).__name__)
        return 404, _PLAIN, b"available: /metrics, /healthz and /readyz\n"


def _health(fault: str) -> Answer:
    return (503, _PLAIN, f"{visible(fault)}\n".encode()) if fault else (200, _PLAIN, b"ok\n")
