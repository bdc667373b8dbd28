# SPDX-License-Identifier: GPL-2.0
"""Whether the SYN guard of an interface can answer: the choice of the attach mode, and the messages about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.guard import answers
from xdpguard.control.interfaces import Interface
from xdpguard.control.surroundings import egress_of_answers
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.net.answers import Egress, egress
from xdpguard.net.links import Link, Mode, WantedMode
from xdpguard.net.netns import arguments_of, place_of

if TYPE_CHECKING:
    from xdpguard.policy.model import Guard

_BY = {guard.MUTE_NOT: "", guard.MUTE_TOLD: "controller", guard.MUTE_FOUND: "data plane"}


class Silence(NamedTuple):
    """Why the answers of an interface's guard do not arrive, and the remedy.

    ``muted``: the guard knows and sends none; ``by``: what told it, "controller" or "data plane".
    """

    muted: bool
    why: str
    remedy: str
    by: str


def in_words(muted: bool, why: str) -> str:
    """Return what a guard does whose answers do not arrive, as a clause without its subject."""
    if muted:
        return f"does not answer SYNs; in a flood they go to the kernel: {why}"
    return f"sends answers that do not arrive: {why}"


def silence(link: Link, state: guard.State, out: Egress) -> Silence | None:
    """Return why the guard of an interface, given its state and whether its answers leave, answers nobody, or None."""
    if out.leaves is False:
        return Silence(state.muted(), out.why, out.remedy, _BY[state.mute])
    if state.mute == guard.MUTE_TOLD:
        what = "answers would arrive now, but the guard was told earlier that they would not"
        remedy = f"xdpguard run tells it; or attach again: xdpguard attach {arguments_of(link.name, link.netns)}"
        return Silence(True, what, remedy, _BY[state.mute])
    # A finding of the data plane is not final: it checks again at the next SYN of a flood.
    return None


class Reach:
    """Whether the guards of an instance can answer, by name and namespace of the interface."""

    def __init__(self, pins: Pins, links: Iterable[Link]) -> None:
        """``links``: the links that carry the instance's program now."""
        self.silences = {
            (link.name, link.netns): silence(link, guard.read(pins, link.name, link.netns), egress_of_answers(link))
            for link in links
        }
        self.mode = guardpolicy.read(pins).mode if self.silences else "off"

    def failing(self, interfaces: Iterable[Interface]) -> Iterator[tuple[Interface, Silence]]:
        """Yield the interfaces whose guard is on but answers nobody, with the reason."""
        for it in interfaces:
            found = self.silences.get((it.name, it.netns))
            if found is not None and answers(self.mode) and not it.observe:
                yield it, found


class Choice(NamedTuple):
    """The mode to attach in, the mode asked for, and ``egress``: whether answers leave, which decided the choice."""

    mode: Mode
    wanted: WantedMode
    egress: Egress
    policy: Guard


def choose(link: Link, wanted: WantedMode, policy: Guard) -> Choice:
    """Choose the mode to attach in. An attached interface keeps its mode; auto avoids one in which no answer leaves."""
    if link.xdp is not None and link.xdp.mode != "offload":
        return Choice(link.xdp.mode, wanted, egress(link), policy)
    if wanted == "generic":
        return Choice("generic", wanted, Egress(True), policy)
    out = egress(link, "native")
    if wanted == "auto" and out.leaves is False and policy.mode != "off":
        return Choice("generic", wanted, out, policy)
    return Choice("native", wanted, out, policy)


def notes(link: Link, interface: Interface, choice: Choice) -> list[str]:
    """Return notes for the user on how the guard answers on an interface that was just attached as ``link``.

    Only after the attach is it known whether the driver leaves VLAN tags in the frames, as it was asked to.
    """
    out, place = choice.egress, place_of(interface.name, interface.netns)
    if out.leaves is not False and interface.mode == "native":
        out = egress_of_answers(link)
    if out.leaves is True or choice.mode != interface.mode:
        return []
    if interface.mode == "generic":
        return [
            f"{place} is attached in generic mode, which copies each packet, because in native mode no answer would"
            f" arrive: {out.why}"
        ]
    if interface.observe or not answers(choice.policy.mode):
        if out.leaves is None:
            return []
        state = "is off" if choice.policy.mode == "off" else "only observes"
        return [f"the SYN guard {state}; on {place} it could not answer either: {out.why}; {out.remedy}"]
    if out.leaves is None:
        return [f"{place}: {out.why}; under a flood the SYN guard answers anyway"]
    return [f"the SYN guard on {place} does not answer SYNs: {out.why}; {out.remedy}"]
