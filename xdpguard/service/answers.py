# SPDX-License-Identifier: GPL-2.0
"""Track on every tick whether the guards' answers can leave: the peer of a veth may lose its program at any time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from xdpguard.control.answering import in_words, silence
from xdpguard.control.guard import answers
from xdpguard.control.surroundings import egress_of_answers
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.net.answers import Egress
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard
from xdpguard.service.floods import Place, name_of

_log = logging.getLogger(__name__)


class Answers:
    """Tracks the answers of the guards on all interfaces of an instance."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._silent: dict[Place, str] = {}  # by interface, the reason that was logged last
        self._egress: dict[Place, Egress] = {}  # as of the last `look`

    def outdated(self, links: Sequence[Link]) -> bool:
        """Look again; return whether what any guard was told about its answers is no longer true."""
        self.look(links)
        return any(
            (out.leaves is False) != guard.read(self._pins, *place).muted() for place, out in self._egress.items()
        )

    def look(self, links: Sequence[Link]) -> None:
        """Record how answers leave each interface now."""
        self._egress = {(link.name, link.netns): egress_of_answers(link) for link in links}

    def tell(self, links: Sequence[Link], policy: Guard) -> None:
        """Log each active guard whose ability to answer has changed. Call `look` with these links first."""
        before, self._silent = self._silent, {}
        for link in links if answers(policy.mode) else ():
            place = (link.name, link.netns)
            found = silence(link, guard.read(self._pins, *place), self._egress[place])
            if found is not None:
                words = in_words(found.muted, found.why)
                self._silent[place] = words
                if before.get(place) != words:
                    _log.warning(f"{name_of(link)}: the guard {words}; {found.remedy}")
            elif place in before:
                _log.info(f"{name_of(link)}: the guard's answers leave again")
