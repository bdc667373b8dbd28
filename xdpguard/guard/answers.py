# SPDX-License-Identifier: GPL-2.0
"""Watches, tick by tick, whether the guards' answers can leave: the peer of a veth may lose its program at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdpguard.answering import answers, in_words, silence
from xdpguard.dataplane import guard
from xdpguard.dataplane.pins import Pins
from xdpguard.guard.floods import Place, name_of
from xdpguard.guardbook import way_of_answers
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard


class Answers:
    """All interfaces of an instance."""

    def __init__(self, pins: Pins, log: Callable[[str], None]) -> None:
        self._pins = pins
        self._log = log
        self._silent: dict[Place, str] = {}  # why, of those that were told of

    def outdated(self, links: Sequence[Link]) -> bool:
        """Whether what a guard was told of its answers is not so any more."""
        return any(self._outdated(link) for link in links)

    def _outdated(self, link: Link) -> bool:
        state = guard.read(self._pins, link.name, link.netns)
        return (way_of_answers(link).leaves is False) != state.muted()

    def tell(self, links: Sequence[Link], policy: Guard) -> None:
        """Logs where it has changed, since the last call, whether a guard that is on answers."""
        before, self._silent = self._silent, {}
        for link in links if answers(policy.mode) else ():
            place = (link.name, link.netns)
            found = silence(link, guard.read(self._pins, *place))
            if found is not None:
                words = in_words(found.muted, found.why)
                self._silent[place] = words
                if before.get(place) != words:
                    self._log(f"{name_of(link)}: the guard {words}; {found.remedy}")
            elif place in before:
                self._log(f"{name_of(link)}: answers of the guard leave again")
