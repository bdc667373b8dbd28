# SPDX-License-Identifier: GPL-2.0
"""Follow the interfaces from tick to tick and log their floods, with evidence from the listeners."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable
from time import monotonic

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.links import Link
from xdpguard.net.netns import place_of
from xdpguard.policy.model import Guard
from xdpguard.service.detector import Flood, Sample
from xdpguard.tcp.evidence import Evidence, describe
from xdpguard.tcp.resent import Counter as Resent
from xdpguard.telemetry import counters, tracking

_log = logging.getLogger(__name__)

Place = tuple[str, str]  # interface and namespace
_SAMPLING = 1.0  # seconds of a flood from which its sample is taken: the data plane adds so many tuples each second


class Floods:
    """Follows the floods on all interfaces of an instance."""

    def __init__(self, pins: Pins) -> None:
        self.evidence: Evidence | None = None  # None if the kernel does not let SYN-ACKs be counted
        self._pins = pins
        self._floods: dict[Place, Flood] = {}
        self._before: dict[Place, tuple[float, Counter[tracking.Tuple]]] = {}  # when (monotonic, s), and what there was

    def count(self, stack: contextlib.ExitStack) -> None:
        """Count retransmitted SYN-ACKs until the stack ends; without them a flood is logged without that evidence."""
        try:
            self.evidence = Evidence(stack.enter_context(Resent()))
        except XdpguardError as error:
            _log.warning(f"no evidence of retransmitted SYN-ACKs: {error}; {error.remedy}")

    def look(self, links: Iterable[Link], policy: Guard) -> bool:
        """Log what is new at this tick; return whether there is a flood."""
        active = False
        for link in links:
            sample = self._sample(link, policy)
            active = active or sample.active
            self._follow(link, sample)
        if not active and self.evidence is not None:
            self.evidence.begin()
        return active

    def _sample(self, link: Link, policy: Guard) -> Sample:
        # In this order: what is counted before the guard started belongs to no flood, and everything after it does.
        counted = counters.read(self._pins, link.name, link.netns)
        state = guard.read(self._pins, link.name, link.netns)

        def reason(name: str) -> int:
            return counted.reasons[name].packets + counted.reasons[name].observed_packets

        syns = sum(count for flags, count in counted.flag_sets.items() if flags & 0x12 == 0x02)
        active = policy.mode != "off" and state.until != guard.ALWAYS and state.active()
        return Sample(
            at=monotonic(),
            active=active,
            cause=guard.CAUSES[state.cause],
            port=state.port,
            acts=_acts(state, policy),
            syns=syns,
            cookies=reason("cookie_sent"),
            valid=counted.cookies_valid,
            bad=reason("cookie_bad"),
            unmatched=reason("ack_unknown"),
            limited=reason("syn_rate"),
        )

    def _follow(self, link: Link, sample: Sample) -> None:
        place = (link.name, link.netns)
        flood = self._floods.setdefault(place, Flood(name_of(link)))
        tuples = None
        # Ticks follow each other at once where one took long, or another flood begins.
        if flood.wants_tuples() and monotonic() - self._before[place][0] >= _SAMPLING:
            _, before = self._before[place]
            tuples = tracking.tuples(self._pins) - before
        lines = list(flood.feed(sample, tuples))
        for line in lines:
            _log.info(line)
        if not flood.wants_tuples():
            self._before.pop(place, None)
        elif place not in self._before:
            self._before[place] = monotonic(), tracking.tuples(self._pins)
        if lines and flood.running:
            self._tell_evidence(link, sample.port)

    def _tell_evidence(self, link: Link, port: int) -> None:
        """Log the listeners' queues and the rate of SYN-ACKs that they retransmit."""
        if self.evidence is None:
            return
        # Not worth failing a tick: the namespace may no longer exist.
        with contextlib.suppress(XdpguardError, OSError):
            words = describe(self.evidence.read(netns.place(link.netns)), port)
            if words:
                _log.info(f"{name_of(link)}: {words}")


def _acts(state: guard.State, policy: Guard) -> str:
    if policy.mode == "observe":
        return "only counting what SYN cookies would do"
    if state.muted():
        return "leaving SYNs to the kernel, because answers would not arrive"
    return "answering with SYN cookies"


def name_of(link: Link) -> str:
    """Return the name of an interface as the log shows it."""
    return place_of(link.name, link.netns)
