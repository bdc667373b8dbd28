# SPDX-License-Identifier: GPL-2.0
"""Interfaces whose program others take off or replace: when to attach again, and what to say.

Ours is attached again soon, and later each time it is taken off anew. Another program that is there is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from xdpguard import units
from xdpguard.control.interfaces import Interface
from xdpguard.net.netns import arguments_of, place_of

_FIRST, _MOST = 1.0, 300.0  # seconds until the next attach; it doubles
_CALM = 600.0  # seconds for which the program must stay until the next loss counts as the first

Place = tuple[str, str]  # interface and namespace


@dataclass
class Taken:
    """How often a program was taken off one interface. Times are monotonic, in seconds.

    ``at``: when it is attached again; None while it is attached, or once that was tried.
    """

    times: int = 0
    at: float | None = None
    _off: bool = False
    _attached: float = 0.0  # since when it was there before it was taken off

    def lost(self, now: float) -> float:
        """Record that the program was taken off; return in how many seconds to attach again."""
        if self.times and now - self._attached >= _CALM:
            self.times = 0
        wait = min(_MOST, _FIRST * 2.0**self.times)
        self.times += 1
        self.at, self._off = now + wait, True
        return wait

    def attached(self, now: float) -> None:
        """Record that the program is there again, whoever attached it."""
        if self._off:
            self._attached = now
        self.at, self._off = None, False


class Losses:
    """The interfaces of one instance that have lost their program to others."""

    def __init__(self) -> None:
        self._taken: dict[Place, Taken] = {}
        self._others: dict[Place, int] = {}  # the program that has replaced ours, as it was told

    def due(self, now: float) -> bool:
        """Return whether an interface is to be attached again now."""
        return any(its.at is not None and now >= its.at for its in self._taken.values())

    def attached(self, place: Place, now: float) -> None:
        """Record that an interface carries our program."""
        self._others.pop(place, None)
        if place in self._taken:
            self._taken[place].attached(now)

    def keep(self, places: Container[Place]) -> None:
        """Forget all other interfaces."""
        for held in (self._taken, self._others):
            for place in [it for it in held if it not in places]:
                del held[place]

    def replaced(self, it: Interface, whose: Callable[[Interface], str]) -> str:
        """Return what to say of an interface with another program; empty if it was said.

        ``whose`` describes that program, which takes a while.
        """
        place = (it.name, it.netns)
        if self._others.get(place) == it.other:
            return ""
        self._others[place] = it.other
        return (
            f"{place_of(*place)} carries another XDP program, {whose(it)}: somebody has replaced ours;"
            " it is left alone, and ours is attached again once it is gone"
        )

    def taken_off(self, it: Interface, now: float, failed: bool) -> str | None:
        """Return what to say of an interface without a program; None if it is to be attached again now.

        ``failed``: attaching has failed since.
        """
        place = (it.name, it.netns)
        self._others.pop(place, None)
        its = self._taken.setdefault(place, Taken())
        if its.at is None and not failed:
            wait = its.lost(now)
            times = f", {its.times} times by now" if its.times > 1 else ""
            return (
                f"{place_of(*place)} lost its program: somebody detached it{times}; nothing is in force there; it is"
                f" attached again in {units.span(wait)}; to detach it for good: xdpguard detach {arguments_of(*place)}"
            )
        if its.at is not None and now < its.at:
            return ""
        its.at = None
        return None
