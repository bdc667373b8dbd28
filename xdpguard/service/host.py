# SPDX-License-Identifier: GPL-2.0
"""The sysctls that SYN cookies need: raised while a flood lasts, restored some time after."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from xdpguard.control.controller import Controller
from xdpguard.control.guard import answers
from xdpguard.control.sysctls import TIMESTAMPS
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard

_log = logging.getLogger(__name__)

_LINGER = 10.0  # seconds without a flood before sysctls are restored
_DRAIN = 2.0  # further seconds for the replies to answers that carried options
_WANTED = {"net.ipv4.tcp_syncookies": "2", TIMESTAMPS: "2"}


class Host:
    """Raises and restores the sysctls of the watched namespaces. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.options = True  # whether cookies may carry options
        self._flood_at = float("-inf")  # when a flood was last seen

    def see(self, active: bool, now: float) -> None:
        """Record whether there is a flood."""
        if active:
            self._flood_at = now

    def due(self, policy: Guard, active: bool, now: float) -> bool:
        """Return whether `settle` has anything to do."""
        if _needs_cookies(policy, active):
            return self._flood_at == now or not self.options
        return now - self._flood_at >= _LINGER and self._flood_at != float("-inf")

    def settle(self, session: Controller, policy: Guard, links: Sequence[Link], active: bool, now: float) -> None:
        """Raise the sysctls that cookies need, or restore them once the flood has been over long enough."""
        if _needs_cookies(policy, active):
            wanted = {name: value for name, value in _WANTED.items() if name != TIMESTAMPS or policy.options}
            for name in sorted({link.netns for link in links}):
                for change in session.sysctls.raise_to(name, wanted):
                    _log.info(f"{'while the flood lasts' if active else 'while the guard answers'}: {change}")
            self._set_options(session, policy, links, True)
            return
        if now - self._flood_at < _LINGER:
            return
        if not session.sysctls.held():
            self._flood_at = float("-inf")
            return
        self._set_options(session, policy, links, False)
        if now - self._flood_at >= _LINGER + _DRAIN:
            for change in session.sysctls.restore():
                _log.info(f"restored: {change}")
            self._flood_at = float("-inf")
            self._set_options(session, policy, links, True)

    def release(self, session: Controller, policy: Guard) -> None:
        """Restore the sysctls for good, because the service ends."""
        links = session.links()
        if links:
            # Stop asking for proof of scans, and let no answer depend on a sysctl that is about to be restored.
            session.guard.apply(policy, links, options=not session.sysctls.held())
        for change in session.sysctls.restore():
            _log.info(f"restored: {change}")
        if links:
            session.guard.apply(policy, links)

    def _set_options(self, session: Controller, policy: Guard, links: Sequence[Link], options: bool) -> None:
        if options != self.options:
            self.options = options
            session.guard.apply(policy, links, options, scan=True)


def _needs_cookies(policy: Guard, active: bool) -> bool:
    return policy.sysctls and answers(policy.mode) and (active or policy.mode == "always")
