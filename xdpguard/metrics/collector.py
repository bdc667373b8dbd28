# SPDX-License-Identifier: GPL-2.0
"""Collect the figures at the moment of a scrape, from the pinned maps, the store and the links.

A part that cannot be read does not affect the others; it is reported in xdpguard_scrape_collector_success.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xdpguard import __version__
from xdpguard.control.interfaces import Interface, Interfaces
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.metrics.bridged import put_bridges
from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.counters import put_counters
from xdpguard.metrics.hits import RuleTotals
from xdpguard.metrics.samples import Gathering, Sample
from xdpguard.metrics.shadows import ShadowTotals
from xdpguard.metrics.status import Status
from xdpguard.metrics.tcp import TcpFigures
from xdpguard.metrics.totals import Totals
from xdpguard.net import sysctl
from xdpguard.net.links import Links
from xdpguard.policy.rule import MODES
from xdpguard.store.attachments import attachments
from xdpguard.store.database import Store
from xdpguard.telemetry.top import top

_log = logging.getLogger(__name__)

_MODES = ("off", "observe", "auto", "always")
_CAUSES = ("queue", "syns", "unmatched")  # enum xg_flood_cause, from 1


class _Incomplete(Exception):
    """Some figures of a part could not be read; the others were."""


class Collector:
    """One instance's figures. Any thread may ask; one at a time is served."""

    def __init__(self, pins: Pins, store: Path, status: Status) -> None:
        self.top = 0  # maximum number of sources, ports and listeners that are named
        self.tcp = TcpFigures()
        self._pins = pins
        self._store = store
        self._status = status
        self._links = Links()
        self._totals = Totals(pins)
        self._hits = RuleTotals(pins, store)
        self._shadows = ShadowTotals()
        self._attached: set[str] = set()  # namespaces, as `_interfaces` has found them
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}

    def gather(self) -> list[Sample]:
        """Return every current figure, in the order of the catalogue."""
        begun = time.perf_counter()
        with self._lock:
            found = Gathering()
            for name, part in (
                ("service", self._service),
                ("interfaces", self._interfaces),
                ("rules", self._rules),
                ("lists", self._lists),
                ("filters", self._filters),
                ("shadow", self._shadow),
                ("bridges", partial(put_bridges, self._store)),
                ("tuples", self._tuples),
                ("tcp", self._tcp),
            ):
                found.put("xdpguard_scrape_collector_success", self._try(name, part, found), name)
        found.put("xdpguard_scrape_duration_seconds", time.perf_counter() - begun)
        order = {name: place for place, name in enumerate(FAMILIES)}
        return sorted(found, key=lambda sample: order[sample.name])

    def interfaces(self) -> list[Interface]:
        """Return the recorded interfaces in their current state."""
        with Store(self._store, read_only=True) as store:
            interfaces = Interfaces(store, KernelDataplane(self._pins), self._links)
            return [interfaces.look(it) for it in attachments(store)]

    def rest(self) -> None:
        """Release what is costly while nobody scrapes."""
        with self._lock:
            self.tcp.close()

    def close(self) -> None:
        """Close the maps and the store that are kept open."""
        with self._lock:
            self._hits.close()
            self._totals.close()
            self.tcp.close()

    def _try(self, name: str, part: Callable[[Gathering], None], found: Gathering) -> bool:
        """Return whether a part could be read; otherwise log that once, and add nothing of it."""
        mine = Gathering()
        try:
            part(mine)
        except _Incomplete as error:
            found += mine
            self._failing_now(name, f"not all of {name} can be read: {error}")
            return False
        except Exception as error:  # whatever it is, the other figures are still wanted
            self._failing_now(name, f"{name} cannot be read: {str(error) or type(error).__name__}")
            return False
        self._failing.pop(name, None)
        found += mine
        return True

    def _failing_now(self, name: str, words: str) -> None:
        if self._failing.get(name) != words:
            self._failing[name] = words
            _log.warning(f"metrics: {words}; continuing without")

    def _service(self, out: Gathering) -> None:
        status = self._status
        out.put("xdpguard_build_info", 1, __version__, str(abi.ABI), self._store.parent.name)
        out.put("xdpguard_start_time_seconds", status.started)
        out.put("xdpguard_loop_age_seconds", status.age())
        out.put("xdpguard_config_last_reload_successful", status.reload_ok)
        out.put("xdpguard_config_last_reload_success_timestamp_seconds", status.reloaded)
        for mode in _MODES:
            out.put("xdpguard_guard_mode", status.mode == mode, mode)
        taken = status.audit
        if taken is not None:
            lists = taken.audit.lists.values()
            out.put("xdpguard_enforcement_ratio", taken.audit.ratio)
            parts = (("rules", [taken.audit.rules]), ("filters", [taken.audit.filters]), ("lists", lists))
            for of, shares in parts:
                out.put("xdpguard_enforcement_stored", sum(it.stored for it in shares), of)
                out.put("xdpguard_enforcement_held", sum(it.held for it in shares), of)
            out.put("xdpguard_enforcement_audit_timestamp_seconds", taken.at)
        status.put_fleet(out)

    def _interfaces(self, out: Gathering) -> None:
        found = self.interfaces()
        self._attached = {it.netns for it in found if it.state == "attached"}
        self._totals.keep({(it.name, it.netns) for it in found})
        for it in found:
            place = (it.name, it.netns)
            attached = it.state == "attached"
            out.put("xdpguard_interface_attached", attached, *place)
            out.put("xdpguard_interface_info", 1, *place, it.mode, "yes" if it.observe else "no", it.state)
            reading = self._totals.read(place)
            if reading is not None:
                put_counters(out, place, reading)
                self._guarded(out, place, reading.state, attached)
        for netns in sorted(self._attached):
            out.put("xdpguard_guard_tcp_syncookies", int(sysctl.read("net.ipv4.tcp_syncookies", netns)), netns)

    def _guarded(self, out: Gathering, place: tuple[str, str], state: guard.State, attached: bool) -> None:
        active = attached and self._status.mode != "off" and state.active()
        out.put("xdpguard_guard_active", active, *place)
        out.put("xdpguard_guard_muted", attached and state.muted(), *place)
        for number, cause in enumerate(_CAUSES, start=1):
            began = active and state.until != guard.ALWAYS and state.cause == number
            out.put("xdpguard_guard_cause", began, *place, cause)

    def _rules(self, out: Gathering) -> None:
        tally = self._hits.read()
        out.put("xdpguard_bans", tally.bans)
        for kind, count in tally.rules.items():
            out.put("xdpguard_rules", count, kind)
            out.put("xdpguard_rule_hits_total", tally.hits[kind][0], kind)
            out.put("xdpguard_rule_hit_bytes_total", tally.hits[kind][1], kind)

    def _lists(self, out: Gathering) -> None:
        with Store(self._store, read_only=True) as store:
            for it in Ruleset(store, KernelDataplane(self._pins)).lists.in_force():
                out.put("xdpguard_list_entries", it.its.entries, it.its.name)
                out.put("xdpguard_list_loaded_timestamp_seconds", it.its.loaded, it.its.name)
                out.put("xdpguard_list_hits_total", it.packets, it.its.name)
                out.put("xdpguard_list_hit_bytes_total", it.bytes, it.its.name)

    def _filters(self, out: Gathering) -> None:
        with Store(self._store, read_only=True) as store:
            found = Ruleset(store, KernelDataplane(self._pins)).filters.in_force()
        for mode in MODES:
            out.put("xdpguard_filters", sum(1 for it in found if it.its.mode == mode), mode)
        for its, hits in found:
            labels = its.name, its.action, its.mode
            out.put("xdpguard_filter_hits_total", hits.packets, *labels)
            out.put("xdpguard_filter_hit_bytes_total", hits.bytes, *labels)
            if its.action == "limit":
                out.put("xdpguard_filter_limited_packets_total", hits.limited_packets, *labels)
                out.put("xdpguard_filter_limited_bytes_total", hits.limited_bytes, *labels)

    def _shadow(self, out: Gathering) -> None:
        with Store(self._store, read_only=True) as store:
            tally = self._shadows.read(store, self._pins)
        out.put("xdpguard_shadow_entries", tally.rules, "rules")
        out.put("xdpguard_shadow_entries", tally.entries, "lists")
        for name, hits in tally.counted._asdict().items():
            out.put("xdpguard_shadow_packets_total", hits.packets, name)
            out.put("xdpguard_shadow_bytes_total", hits.bytes, name)

    def _tuples(self, out: Gathering) -> None:
        if not self._pins.exist():
            return
        found = top(self._pins, self.top)
        out.put("xdpguard_tracked_tuples", found.tuples)
        out.put("xdpguard_tracked_syns", found.syns)
        for source, syns in found.sources:
            out.put("xdpguard_top_source_syns", syns, source)
        for port, syns in found.ports:
            out.put("xdpguard_top_port_syns", syns, str(port))

    def _tcp(self, out: Gathering) -> None:
        missing = self.tcp.put(out, self._attached, self.top)
        if missing:
            raise _Incomplete("; ".join(str(it) for it in missing))
