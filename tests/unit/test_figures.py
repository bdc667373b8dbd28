# SPDX-License-Identifier: GPL-2.0
"""The metrics: their names, that totals only rise, their number is bounded, and the dashboard's queries match."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as _parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from xdpguard.cli.app import run
from xdpguard.control.audit import Audit
from xdpguard.control.interfaces import Interface
from xdpguard.control.results import Share
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.kernel import MapInfo
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.metrics import dashboard, hits, totals
from xdpguard.metrics.catalogue import FAMILIES
from xdpguard.metrics.collector import Collector
from xdpguard.metrics.colours import BY_NAME
from xdpguard.metrics.prometheus import Exposition, metrics
from xdpguard.metrics.samples import Gathering
from xdpguard.metrics.status import LastAudit, Status
from xdpguard.policy.filter import FilterHits, NewFilter
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.hits import Hits
from xdpguard.policy.load import load
from xdpguard.policy.metrics import Address, parse_listen
from xdpguard.policy.model import TcpMetrics
from xdpguard.policy.rule import GUARD, NewRule
from xdpguard.policy.target import parse_ports, parse_prefix
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.tcp import figures
from xdpguard.tcp.resent import Resent
from xdpguard.telemetry import counters, top

parse_openmetrics: Any = _parse_openmetrics  # has no types
FIELDS = abi.REASON_SLOTS * abi.REASON_FIELDS + 256 + len(abi.PROTOCOLS) + 4


def test_names_and_labels_follow_the_conventions() -> None:
    for family in FAMILIES.values():
        assert re.fullmatch(r"xdpguard_[a-z0-9]+(_[a-z0-9]+)*", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not re.search(r"_(milli|micro|nano|kilo|mega)?(seconds|bytes)_.*(seconds|bytes)", family.name)
        assert family.help.endswith("."), family.name
        assert not {"job", "instance", "le", "quantile"} & set(family.labels), family.name
        assert all(re.fullmatch(r"[a-z]+", label) for label in family.labels)
    assert FAMILIES["xdpguard_bytes_total"].unit == "By"
    assert FAMILIES["xdpguard_enforcement_ratio"].unit == "1"
    assert FAMILIES["xdpguard_start_time_seconds"].unit == "s"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9782", Address("127.0.0.1", 9782)),
        ("[::1]:9782", Address("::1", 9782)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),
        ("", None),
        ("off", None),
    ],
)
def test_where_to_listen(text: str, found: Address | None) -> None:
    assert parse_listen(text) == found
    if found is not None:
        assert str(found) == text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        *(
            (f'listen = "{text}"', "listen: not an address and port")
            for text in (":9782", "9782", "localhost:9782", "127.0.0.1", "127.0.0.1:65536", "::1:9782", "[1.2.3.4]:1")
        ),
        ("listen = 9782", "listen: 9782 is not text"),
        ("top = -1", "top: -1 is not a whole number from 0 to 100"),
        ("top = 101", "top: 101 is not a whole number from 0 to 100"),
        ('otlp = "host:4318"', "otlp: not a URL"),
        ('otlp = "http://host:0x1/"', "otlp: not a URL"),
        ('otlp = "http://name:s3#cret@host/?token=7"', "otlp: not a URL: 'http://host/'"),
        ('otlp_interval = "soon"', "otlp_interval: not a duration"),
        ('otlp_interval = "100ms"', "otlp_interval: '100ms' is out of range"),
        ('liste = "off"', "unknown key"),
        ("tcp.rtt = 1", "rtt: 1 is neither true nor false"),
        ("tcp.round = true", "unknown key"),
    ],
)
def test_faults_in_the_file_are_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(f"[metrics]\n\n{line}\n")
    with pytest.raises(UsageError) as caught:
        load(file)
    assert f"{file}:3: metrics." in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_the_table_and_its_defaults(tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text("")
    assert load(file).metrics.listen == "127.0.0.1:9782"
    file.write_text('[metrics]\nlisten = "off"\ntop = 0\notlp = "http://[::1]:4318/v1/metrics"\notlp_interval = "1m"\n')
    assert load(file).metrics.top == 0


class Kernel:
    """Maps by descriptor: what Totals reads of the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: dict[tuple[str, str], dict[str, int]] = {}  # place: what its maps hold
        self.opened: dict[int, dict[str, int]] = {}
        self._numbers = itertools.count(1)
        monkeypatch.setattr(kernel, "map_info", self._info)
        monkeypatch.setattr(counters, "sums", lambda fd: [self.opened[fd]["packets"], *[0] * (FIELDS - 1)])
        monkeypatch.setattr(guard, "state_of", self._state)

    def attach(self, place: tuple[str, str], packets: int = 0, floods: int = 0) -> None:
        self.pinned[place] = {"number": next(self._numbers), "packets": packets, "floods": floods}

    def open_link(self, map_name: str, name: str, netns: str, size: int) -> int:
        del map_name, size
        if (name, netns) not in self.pinned:
            raise XdpguardError("no pinned map")
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.opened[descriptor] = self.pinned[name, netns]
        return descriptor

    def _info(self, descriptor: int) -> MapInfo:
        return MapInfo(6, self.opened[descriptor]["number"], 4, 8, 1, 0, "counters")

    def _state(self, descriptor: int) -> guard.State:
        return guard.State(*[0] * len(guard.State._fields))._replace(floods=self.opened[descriptor]["floods"])


def test_counters_only_rise_whatever_happens_to_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up and made anew between two readings: what was counted after the last reading is there, too."""
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    world = Kernel(monkeypatch)
    its = totals.Totals(world)  # type: ignore[arg-type]
    place = ("eth0", "")

    def now() -> tuple[int, int] | None:
        reading = its.read(place)
        return (reading.counters.reasons["pass"].packets, reading.floods) if reading else None

    assert now() is None
    world.attach(place, 100, 1)
    assert now() == (100, 1)
    world.pinned[place]["packets"] = 150
    world.attach(place)
    assert now() == (150, 1)
    world.pinned[place].update(packets=7, floods=2)
    assert now() == (157, 3)
    world.pinned[place]["packets"] = 8
    del world.pinned[place]
    its.keep({place})
    assert now() is None
    its.keep(())
    world.attach(place, 1)
    assert now() == (159, 3)
    its.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


class NoMaps:
    def exist(self) -> bool:
        return False

    def open(self, name: str, *_: int) -> int:
        raise XdpguardError(f"no pinned map {name}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "default" / "store.db") as made:
        yield made


def rule(
    target: str, kind: Any = "block", source: str = "cli", expires: float | None = None, created: float = 0.0
) -> NewRule:
    its = parse_ports(target)[0] if kind == "port" else parse_prefix(target)[0]
    return NewRule(kind, its, "", source, created, expires)


def test_hits_of_rules_stay_when_the_rules_go(store: Store, tmp_path: Path) -> None:
    rules = hits.RuleTotals(NoMaps(), tmp_path / "default" / "store.db")  # type: ignore[arg-type]
    assert rules.read().rules == {"allow": 0, "block": 0, "port": 0}
    with store.transaction():
        store.put([(rule("192.0.2.1"), 0), (rule("192.0.2.2", source=GUARD), 1), (rule("9/tcp", "port"), 2)])
        store.put([(rule("192.0.2.3", source=GUARD, expires=1.0), 3)])
        store.add_hits((Hits(10 * it.id, 600 * it.id), it.id) for it in store.rules())
    found = rules.read()
    assert found.rules == {"allow": 0, "block": 2, "port": 1}, "one has ended"
    assert found.bans == 1
    assert found.hits == {"allow": (0, 0), "block": (70, 4200), "port": (30, 1800)}
    with store.transaction():
        store.remove([1])
        store.put([(rule("192.0.2.9"), 0)])
        store.add_hits([(Hits(5, 300), 2), (Hits(1, 60), 5)])
    found = rules.read()
    assert found.rules["block"] == 2
    assert found.hits["block"] == (76, 4560)
    with store.transaction():
        store.remove([2, 3, 4, 5])
    assert rules.read().hits["block"] == (76, 4560)


def test_hits_of_a_rule_that_reuses_a_number(store: Store, tmp_path: Path) -> None:
    rules = hits.RuleTotals(NoMaps(), tmp_path / "default" / "store.db")  # type: ignore[arg-type]
    with store.transaction():
        store.put([(rule("192.0.2.1", created=1.0), 0)])
        store.add_hits([(Hits(500, 30_000), 1)])
    assert rules.read().hits["block"] == (500, 30_000)
    with store.transaction():
        store.remove([1])
        store.put([(rule("192.0.2.2", created=2.0), 0)])
        store.add_hits([(Hits(300, 18_000), 1)])
    assert [it.id for it in store.rules()] == [1], "positive control: the number is given again"
    assert rules.read().hits["block"] == (800, 48_000)
    assert rules.read().hits["block"] == (800, 48_000)


tuples = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(1, 300)), max_size=60)


@given(tuples, tuples, st.integers(0, 4))
def test_who_stands_out_against_plain_counting(
    four: list[tuple[int, int, int]], six: list[tuple[int, int, int]], most: int
) -> None:
    rows4 = np.array([(source, 1, 4000, port, 0, syns, 0) for source, port, syns in four], top._TUPLE4)
    addresses = [source.to_bytes(8, "big") + bytes(8) for source, _, _ in six]
    rows6 = np.array(
        [(it, b"x", 4000, row[1], 0, 0, row[2]) for it, row in zip(addresses, six, strict=True)], top._TUPLE6
    )
    found = top.summed(rows4, rows6, most)
    sources, ports = Counter[str](), Counter[int]()
    for source, port, syns in four:
        sources[f"{source}.0.0.0"] += syns
        ports[port] += syns
    for source, port, syns in six:
        sources[f"0:0:0:{source:x}::" if source else "::"] += syns
        ports[port] += syns
    total = sources.total()
    assert (found.tuples, found.syns) == (len(four) + len(six), total)
    assert len(found.sources) <= most
    assert len(found.ports) <= most

    def wanted(counts: Counter[Any]) -> list[int]:
        return sorted((count for count in counts.values() if count * 100 >= total), reverse=True)[:most]

    assert [count for _, count in found.sources] == wanted(sources)
    assert [count for _, count in found.ports] == wanted(ports)
    assert all(ports[port] == count for port, count in found.ports)
    assert all(sources[text] == count for text, count in found.sources)


def test_a_spoofed_flood_names_nobody() -> None:
    rows = np.zeros(100_000, top._TUPLE4)
    rows["source"], rows["syns"] = np.arange(100_000), 1
    rows["destination_port"] = 80
    found = top.summed(rows, np.zeros(0, top._TUPLE6), 10)
    assert (found.sources, found.ports) == ([], [(80, 100_000)])


def collector(tmp_path: Path) -> Collector:
    return Collector(Pins(tmp_path, "default"), tmp_path / "default" / "store.db", Status())


def test_both_formats_can_be_read_back(tmp_path: Path, store: Store) -> None:
    del store
    its = Exposition(collector(tmp_path))
    plain = its.page("", "")
    assert plain.headers["Content-Type"].startswith("text/plain")
    names = {metric.name for metric in parse(plain.body.decode())}
    assert {"xdpguard_rules", "xdpguard_rule_hits", "xdpguard_build_info", "xdpguard_scrape_duration_seconds"} <= names
    strict = its.page("application/openmetrics-text; version=1.0.0", "gzip")
    assert strict.headers["Content-Encoding"] == "gzip"
    assert {metric.name for metric in parse_openmetrics(gzip.decompress(strict.body).decode())} == names


def test_filters_by_name_action_and_mode(tmp_path: Path, store: Store) -> None:
    """What each matched, and of limits what was above; of others there is no such series."""

    def filtered(name: str, limit: str = "", shadow: bool = False) -> NewFilter:
        action = "" if limit else "drop"
        return FilterEntry(name, "udp sport 53", action, limit, shadow=shadow).filter("cli", 0.0)

    with store.transaction():
        counted = (filtered("dns"), filtered("slow", "10/s", shadow=True))
        stored = [it.stored(place, place) for place, it in enumerate(counted)]
        FilterStore(store).put(it._replace(packets=9, bytes=900) for it in stored)
        FilterStore(store).add_hits([(FilterHits(1, 100, 4, 400), "slow")])
    found = {(it.name, it.labels): it.value for it in collector(tmp_path).gather()}
    dns, slow = ("dns", "drop", "enforce"), ("slow", "limit", "shadow")
    assert {labels: value for (name, labels), value in found.items() if name == "xdpguard_filters"} == {
        ("enforce",): 1,
        ("shadow",): 1,
    }
    told = {(name.removeprefix("xdpguard_filter_"), labels[0]): value for (name, labels), value in found.items()
            if name.startswith("xdpguard_filter_") and labels in (dns, slow)}  # fmt: skip
    assert told == {
        ("hits_total", "dns"): 9,
        ("hit_bytes_total", "dns"): 900,
        ("hits_total", "slow"): 10,
        ("hit_bytes_total", "slow"): 1000,
        ("limited_packets_total", "slow"): 4,
        ("limited_bytes_total", "slow"): 400,
    }


def test_what_cannot_be_read_is_said_once_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    its = collector(tmp_path)

    def broken(out: Gathering) -> None:
        out.put("xdpguard_bans", 1)
        raise OSError("no more")

    monkeypatch.setattr(its, "_rules", broken)
    for _ in range(2):
        found = {(sample.name, sample.labels): sample.value for sample in its.gather()}
        assert found["xdpguard_scrape_collector_success", ("rules",)] == 0
        assert found["xdpguard_scrape_collector_success", ("service",)] == 1
        assert ("xdpguard_bans", ()) not in found
    assert log == ["metrics: rules cannot be read: no more; continuing without"]


class Program:
    """One of TCP's programs, as far as attaching goes."""

    def __init__(self, log: list[str], name: str, missing: bool = False) -> None:
        if missing:
            log.append(f"no {name}")
            raise MissingError(f"this kernel has no {name}", "use another")
        self._log, self._name = log, name
        log.append(f"+{name}")

    def forget(self, gone: object) -> None:
        del gone

    def read(self) -> dict[Any, Any] | Resent:
        return Resent({}, {}) if self._name == "resent" else {}

    def close(self) -> None:
        self._log.append(f"-{self._name}")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is attached and detached."""
    log: list[str] = []
    monkeypatch.setattr(figures, "Changes", lambda chosen: Program(log, "changes"))
    monkeypatch.setattr(figures, "Counter", lambda: Program(log, "resent"))
    monkeypatch.setattr(figures, "RoundTrips", lambda chosen: Program(log, "rtt", missing=True))
    return log


def test_what_the_kernel_lacks_for_tcp_leaves_the_rest(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, programs: list[str], log: list[str]
) -> None:
    """And is not tried at each scrape."""
    del store
    its = collector(tmp_path)
    its.tcp.wanted = TcpMetrics(states=False, rtt=True)
    for _ in range(3):
        found = {(sample.name, sample.labels): sample.value for sample in its.gather()}
        assert found["xdpguard_scrape_collector_success", ("tcp",)] == 0
        assert found["xdpguard_scrape_collector_success", ("rules",)] == 1
        assert found["xdpguard_tcp_retransmissions_total", ("", "syn")] == 0
    assert log == ["metrics: not all of tcp can be read: this kernel has no rtt; continuing without"]
    assert programs == ["+changes", "+resent", "no rtt"]
    monkeypatch.setattr(figures, "_RETRY_AFTER", 0.0)
    its.gather()
    assert programs[3:] == ["no rtt"]
    its.tcp.wanted = TcpMetrics(states=False)
    found = {(sample.name, sample.labels): sample.value for sample in its.gather()}
    assert found["xdpguard_scrape_collector_success", ("tcp",)] == 1


def test_parts_of_tcp_come_and_go_by_themselves(tmp_path: Path, store: Store, programs: list[str]) -> None:
    """What stays is not attached anew: its counts would begin again."""
    del store
    its = collector(tmp_path)
    its.tcp.wanted = TcpMetrics(states=False)
    its.gather()
    its.gather()
    its.tcp.wanted = TcpMetrics(states=False, retransmissions=False)
    its.gather()
    assert programs == ["+changes", "+resent", "-resent"]
    its.rest()
    assert programs[3:] == ["-changes"]
    its.gather()
    assert programs[4:] == ["+changes"]
    its.close()
    assert programs[5:] == ["-changes"]


def test_a_histogram_in_both_formats() -> None:
    out = Gathering()
    buckets = ((64e-6, 3), (0.000128, 3), (1.048576, 10), (math.inf, 12))
    out.put("xdpguard_tcp_rtt_seconds", 7.5, "web", buckets=buckets)
    registry = CollectorRegistry()
    registry.register(type("Its", (), {"collect": lambda self: metrics(out)})())
    for page, read in ((generate_latest, parse), (openmetrics, parse_openmetrics)):
        (found,) = read(page(registry).decode())
        assert (found.name, found.type) == ("xdpguard_tcp_rtt_seconds", "histogram")
        values = {(it.name.removeprefix(found.name), it.labels.pop("le", "")): it.value for it in found.samples}
        assert values == {
            ("_bucket", "6.4e-05"): 3,
            ("_bucket", "0.000128"): 3,
            ("_bucket", "1.048576"): 10,
            ("_bucket", "+Inf"): 12,
            ("_count", ""): 12,
            ("_sum", ""): 7.5,
        }
        assert all(it.labels == {"netns": "web"} for it in found.samples)


def test_a_name_that_is_no_text_can_be_told() -> None:
    out = Gathering()
    out.put("xdpguard_guard_active", 1, os.fsdecode(b"et\xff"), "")
    assert out[0].labels == ("et?", "")


def test_when_it_is_alive_and_when_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status()
    attached = [Interface("eth0", "web", "native", False, 7, "attached")]
    assert status.unhealthy() == ""
    assert "nothing is attached" in status.unready([])
    assert status.unready(attached) == "no audit yet"
    status.audit = LastAudit(Audit(Share(4, 4), {"bad": Share(6, 6)}), 0.0)
    assert status.unready(attached) == ""
    assert "eth0 (in web) is detached" in status.unready([Interface("eth0", "web", "", False, None, "detached")])
    status.audit = LastAudit(Audit(Share(4, 4), {"bad": Share(6, 5)}), 0.0)
    assert "held 9 of 10 stored entries" in status.unready(attached)
    status.audit = LastAudit(Audit(Share(4, 4), {}, filters=Share(3, 0)), 0.0)
    assert "held 4 of 7 stored entries" in status.unready(attached)
    monkeypatch.setattr("time.monotonic", lambda: status.ticked + 31)
    assert status.unhealthy() == status.unready(attached) == "the loop last ran 31 s ago"


def queries() -> Iterator[tuple[str, str]]:
    """Where from, and what: of the dashboard, its variables and the alerts."""
    made = json.loads(dashboard.dashboard())
    for panel in made["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in made["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    alerts = dashboard.alerts()
    found = re.findall(r"- alert: (\w+)\n +expr: (?:>-\n)?(.*?)\n +(?:for|labels):", alerts, re.DOTALL)
    assert len(found) == alerts.count("- alert:")
    yield from found


SCREEN = 23  # units of Grafana's grid that 1080 lines show
_SELECTOR = re.compile(r"\b(xdpguard_\w+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_every_query_asks_for_what_there_is(place: str, query: str) -> None:
    asked = _SELECTOR.findall(query)
    assert asked, place
    given_labels = {"job", "instance"}
    for asked_name, conditions in asked:
        name = asked_name.removesuffix("_bucket")
        family = FAMILIES[name]
        known = {"job", "instance", *family.labels}
        given_labels |= known | ({"le"} if family.kind == "histogram" else set())
        assert set(re.findall(r"(\w+)\s*[=!]", conditions)) <= known, (place, query)
        counted = asked_name in " ".join(re.findall(r"(?:rate|increase)\((\w+)", query))
        assert counted == (family.kind in ("counter", "histogram")), (place, name)
        assert (asked_name != name) == (family.kind == "histogram"), (place, name)
    for labels in _GROUPING.findall(query):
        assert set(re.findall(r"\w+", labels)) <= given_labels, (place, query)


def test_the_command_prints_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dashboard"]) == 0
    assert capsys.readouterr().out == dashboard.dashboard()
    assert run(["dashboard", "--alerts"]) == 0
    assert capsys.readouterr().out == dashboard.alerts()


def test_the_dashboard_is_one_for_grafana() -> None:
    made = json.loads(dashboard.dashboard())
    assert made["schemaVersion"] >= 39
    assert [it["name"] for it in made["templating"]["list"]] == ["datasource", "job", "instance", "netns", "interface"]
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert len(panel["description"]) > 10, panel["title"]
    rows = [panel["gridPos"]["y"] for panel in made["panels"] if panel["type"] == "row"]
    ends = [*rows[1:], max(y for _, y in taken) + 1]
    assert len(rows) == 3 and all(end - row <= SCREEN for row, end in zip(rows, ends, strict=True))
    shown = {name.removesuffix("_bucket") for _, query in queries() for name, _ in _SELECTOR.findall(query)}
    left_out = {"xdpguard_start_time_seconds", "xdpguard_config_last_reload_success_timestamp_seconds"}
    assert set(FAMILIES) - shown - left_out == {
        "xdpguard_rule_hit_bytes_total",
        "xdpguard_list_hit_bytes_total",
        "xdpguard_filter_limited_bytes_total",
        "xdpguard_shadow_bytes_total",
    }


def panel_of(title: str) -> dict[str, Any]:
    made = json.loads(dashboard.dashboard())
    found: dict[str, Any] = next(panel for panel in made["panels"] if panel["title"] == title)
    return found


def test_reasons_have_the_same_colours_everywhere_and_drops_are_never_green() -> None:
    assert set(BY_NAME) == {it.name for it in abi.reasons()} | {"drop", "tx"}
    for title in ("Packets by reason", "Dropped by reason", "Observed only", "Bits by action"):
        rules = panel_of(title)["fieldConfig"]["overrides"]
        found = {it["matcher"]["options"]: it["properties"][0]["value"]["fixedColor"] for it in rules}
        assert found == BY_NAME, title
    assert len(set(BY_NAME.values())) >= len(BY_NAME) - 2, "drop and tx share theirs with a reason"
    for reason in abi.reasons():
        good = any(word in BY_NAME[reason.name] for word in ("green", "blue"))
        assert good == (reason.action == "PASS"), reason.name


def test_thresholds_colour_numbers_and_are_lines_in_plots() -> None:
    enforced = panel_of("Enforced")
    steps = enforced["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps == [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    assert enforced["options"]["colorMode"] == "background"
    queue = panel_of("Accept queue")["fieldConfig"]["defaults"]
    assert [(it["color"], it["value"]) for it in queue["thresholds"]["steps"]] == [
        ("green", None),
        ("yellow", 0.5),
        ("red", 0.9),
    ]
    assert queue["custom"]["thresholdsStyle"] == {"mode": "dashed"}


def test_all_namespaces_include_the_own_one_which_has_no_label() -> None:
    made = json.loads(dashboard.dashboard())
    (netns,) = (it for it in made["templating"]["list"] if it["name"] == "netns")
    assert netns["allValue"] == ".*"
    floods = made["annotations"]["list"][0]
    assert "xdpguard_guard_cause{" in floods["expr"] and 'netns=~"$netns"' in floods["expr"]
    assert floods["enable"] and "{{netns}}" in floods["titleFormat"]


def test_alerts_name_where_how_much_and_what_to_do() -> None:
    for rule in dashboard.alerts().split("- alert: ")[1:]:
        name, _, rest = rule.partition("\n")
        asked, _, told = rest.partition("annotations:")
        where = {label for metric, _ in _SELECTOR.findall(asked) for label in FAMILIES[metric].labels}
        assert "netns" not in where or "max by (job, instance)" in asked or "$labels.netns" in told, name
        assert "`" in told or name == "XdpguardReloadFailed", f"{name} says nothing to do"
        assert "rate(" not in asked or "$value | humanize }}" in told, f"{name} does not say how much"
