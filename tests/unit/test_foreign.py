# SPDX-License-Identifier: GPL-2.0
"""What another system may put in force here, and what of it is refused: with a real store and maps in memory."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.fake_filters import FakeMaps, made, new
from support.fake_tables import FakeDataplane, FakeTables, prefixes
from support.patience import patient

from xdpguard.control import needs, promote
from xdpguard.control.filter_order import NEW
from xdpguard.control.foreign import Answer, Foreign
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys.abi import SHADOW_RULES
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net.sockets import LOGIN, Protected
from xdpguard.policy.filter import FILTERS, NewFilter
from xdpguard.policy.foreign import Entry, ForeignLimits, Judge, Overlaps, check_origin
from xdpguard.policy.rule import BGP, CONFIG, CROWDSEC, FAIL2BAN, FLEET, MODES, SAFETY, Mode, NewRule
from xdpguard.policy.target import Kind, Port, Prefix, parse_prefix
from xdpguard.store.database import Store

NOW = 1_000_000.0
CAPACITY = 131_072
SHADOW = ForeignLimits(mode="shadow")
ALL = ForeignLimits(allow=True, filters=True)


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> list[Protected]:
    """What the host needs; a test adds to it."""
    found: list[Protected] = []
    monkeypatch.setattr(needs, "now", lambda store, places=(): list(found))
    return found


@pytest.fixture
def maps() -> FakeMaps:
    found = FakeMaps()
    found._of = {mode: FakeDataplane(FakeTables(CAPACITY if mode == "enforce" else SHADOW_RULES)) for mode in MODES}
    return found


@pytest.fixture
def its(tmp_path: Path, maps: FakeMaps, needed: list[Protected]) -> Iterator[Ruleset]:
    del needed
    with Store(tmp_path / "store.db") as store:
        yield made(store, maps)


def foreign(its: Ruleset, origin: str = FLEET, limits: ForeignLimits | None = None, **more: object) -> Foreign:
    return Foreign(its, origin, limits, now=lambda: NOW, **more)  # type: ignore[arg-type]


def block(text: str, end: float | None = None, reason: str = "", kind: Kind = "block") -> NewRule:
    return NewRule(kind, prefixes(text)[0], reason, "whoever", 0.0, end)


def blocks(*texts: str) -> list[NewRule]:
    return [block(text) for text in texts]


def there(maps: FakeMaps, mode: Mode = "enforce") -> set[str]:
    """What the kernel's tables hold."""
    with maps.tables() if mode == "enforce" else maps.shadow_tables() as tables:
        return {target for _, target in tables.there}


def held(its: Ruleset, mode: Mode = "enforce") -> dict[str, list[tuple[str, str, float | None]]]:
    return {str(rule.target): [(*part,) for part in rule.parts] for rule in its.store.rules(mode=mode)}


def refused(answer: Answer) -> dict[str, str]:
    return {str(it.target): it.why for it in answer.refused}


def test_a_snapshot_is_made_exactly_what_is_in_force(its: Ruleset, maps: FakeMaps) -> None:
    fleet = foreign(its)
    its.rules.add("block", prefixes("10.0.0.9"), "mine", "cli", None)
    answer = fleet.replace([block("10.0.0.1", NOW + 60, "first"), *blocks("10.0.0.2", "2001:db8::/48", "10.0.0.9")])
    assert (len(answer.taken), answer.refused, answer.changed, answer.in_force) == (4, [], True, True)
    assert there(maps) == {"10.0.0.1", "10.0.0.2", "2001:db8::/48", "10.0.0.9"}
    assert held(its)["10.0.0.9"] == [("cli", "mine", None), (FLEET, "", None)]
    answer = fleet.replace([block("10.0.0.1", NOW + 30, "second"), *blocks("10.0.0.3")])
    assert answer.changed
    assert held(its) == {
        "10.0.0.1": [(FLEET, "second", NOW + 30)], "10.0.0.3": [(FLEET, "", None)], "10.0.0.9": [("cli", "mine", None)],
    }  # fmt: skip
    assert there(maps) == set(held(its))
    fleet.replace([])
    assert set(held(its)) == there(maps) == {"10.0.0.9"}


def test_what_has_ended_and_is_not_wanted_any_more_stays_ended(its: Ruleset) -> None:
    """Else a ban that nobody wants would be in force again on a host whose clock is set back."""
    both = [block("10.0.0.1", NOW + 60), block("10.0.0.2", NOW + 60)]
    foreign(its).replace(both)
    foreign(its, CROWDSEC).replace([block("10.0.0.3", NOW + 60)])
    with its.store.transaction():
        its.store.execute("INSERT INTO earlier SELECT mode, kind, target FROM rules")  # the host was booted since
    its.purge()  # by the clock of today
    later = Foreign(its, FLEET, now=lambda: NOW + 61)
    assert later.replace(both).ended == both
    ended = "SELECT source, target FROM lapsed ORDER BY source, target"
    mine = [(CROWDSEC, "10.0.0.3"), (FLEET, "10.0.0.1"), (FLEET, "10.0.0.2")]
    assert its.store.execute(ended) == mine, "it may have been the clock"
    later.replace(both[1:])
    assert its.store.execute(ended) == [mine[0], mine[2]]
    Foreign(its, FLEET, SHADOW, now=lambda: NOW + 61).replace(both)
    assert its.store.execute(ended) == mine[:1]


def test_what_is_so_already_changes_nothing(its: Ruleset) -> None:
    steps: list[str] = []
    its.changes.step = steps.append
    wanted: list[Entry] = [*blocks("10.0.0.1", "10.0.0.2"), new("x", reason="why")]
    assert foreign(its, limits=ALL).replace(wanted).changed
    assert steps.count("commit") == 1, "one change, filters and all"
    its.changes.step = pytest.fail
    for answer in (foreign(its, limits=ALL).replace(wanted), foreign(its, limits=ALL).put(wanted[1:])):
        assert not answer.changed
    assert len(answer.taken) == 2


def test_single_entries_come_and_go(its: Ruleset, maps: FakeMaps) -> None:
    fleet, other = foreign(its), foreign(its, CROWDSEC)
    fleet.put(blocks("10.0.0.1", "10.0.0.2"))
    other.put([block("10.0.0.1", NOW + 60)])
    assert not fleet.put(blocks("10.0.0.2")).changed
    assert fleet.put([block("10.0.0.2", NOW + 5)]).changed, "also an earlier end is taken"
    assert held(its)["10.0.0.2"] == [(FLEET, "", NOW + 5)]
    assert fleet.remove("block", prefixes("10.0.0.1", "10.0.0.77")) == 1
    assert held(its)["10.0.0.1"] == [(CROWDSEC, "", NOW + 60)], "the other's part stays"
    assert there(maps) == {"10.0.0.1", "10.0.0.2"}
    assert fleet.remove("block", prefixes("10.0.0.1")) == 0
    assert (other.remove("block", prefixes("10.0.0.1")), there(maps)) == (1, {"10.0.0.2"})


def test_a_user_loses_nothing_to_another_system(its: Ruleset) -> None:
    its.rules.add("block", prefixes("10.0.0.1"), "mine", "cli", 50)
    (mine,) = held(its)["10.0.0.1"]
    foreign(its).put(blocks("10.0.0.1"))
    assert held(its)["10.0.0.1"] == [(FLEET, "", None), mine]
    foreign(its).put([block("10.0.0.1", NOW + 5)])
    assert sorted(held(its)["10.0.0.1"]) == sorted([mine, (FLEET, "", NOW + 5)])
    foreign(its).replace([])
    assert held(its)["10.0.0.1"] == [mine]


def test_a_local_allow_rule_wins_and_as_long_as_it_lasts(its: Ruleset, maps: FakeMaps) -> None:
    fleet, wanted = foreign(its), blocks("10.0.0.1", "10.1.0.0/24", "10.2.0.1", "10.3.0.1")
    fleet.replace(wanted)
    assert len(there(maps)) == 4
    its.rules.add("allow", prefixes("10.0.0.1", "10.1.0.7", "10.2.0.0/16"), "", "cli", None)
    assert refused(fleet.replace(wanted)) == {
        "10.0.0.1": "it is allowed here",
        "10.1.0.0/24": "10.1.0.7 inside it is allowed here",
        "10.2.0.1": "it is inside 10.2.0.0/16, which is allowed here",
    }
    assert not fleet.replace(wanted).changed
    assert {rule.target for rule in its.store.rules("block")} == set(prefixes("10.3.0.1"))
    its.rules.remove("allow", prefixes("10.1.0.7", "10.2.0.0/16"))
    assert set(refused(fleet.replace(wanted))) == {"10.0.0.1"}
    its.rules.remove("allow", prefixes("10.0.0.1"))
    assert (fleet.replace(wanted).refused, len(there(maps))) == ([], 4)


def test_what_lets_a_needed_address_through_is_no_decision_of_a_user(its: Ruleset) -> None:
    its.rules.add("allow", prefixes("10.0.0.1"), "", SAFETY, None)
    assert foreign(its).put(blocks("10.0.0.1")).refused == []


def test_what_the_host_needs_is_refused_and_decided_again(its: Ruleset, needed: list[Protected]) -> None:
    needed.append(Protected(prefixes("10.0.0.1")[0], "this host's gateway"))
    needed.append(Protected(prefixes("fe80::/10")[0], "where DHCPv6 comes from"))
    fleet = foreign(its, keep=[(prefixes("10.5.0.1")[0], "the server of the fleet")])
    wanted = blocks("10.0.0.0/24", "10.0.0.1", "fe80::1", "10.5.0.1", "10.5.0.2")
    assert refused(fleet.replace(wanted)) == {
        "10.0.0.0/24": "10.0.0.1 inside it is this host's gateway",
        "10.0.0.1": "it is this host's gateway",
        "fe80::1": "it is inside fe80::/10, which is where DHCPv6 comes from",
        "10.5.0.1": "it is the server of the fleet",
    }
    before = list(needed)
    needed.clear()
    assert set(refused(fleet.replace(wanted))) == {"10.5.0.1"}
    assert len(refused(foreign(its, needed=before).replace(wanted))) == 3


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (block("0.0.0.0/0"), "its prefix is shorter than /16"),
        (block("::/0"), "its prefix is shorter than /32"),
        (block("10.0.0.0/15"), "its prefix is shorter than /16"),
        (block("2001:db8::/31"), "its prefix is shorter than /32"),
        (block("10.0.0.1", kind="allow"), "this origin may not let anything through (allow = false)"),
        (NewRule("port", Port(22, "tcp"), "", "", 0.0, None), "closing ports is not left to another system"),
        (new("x"), "this origin may not add filters (filters = false)"),
        (block("10.0.0.1", NOW - 3600), "it ended 1h ago by this host's clock"),
        (block("10.0.0.1", math.nan), "its end is not a time within 100 years"),
        (block("10.0.0.1", math.inf), "its end is not a time within 100 years"),
        (block("10.0.0.1", 1e30), "its end is not a time within 100 years"),
    ],
)
def test_what_is_refused_by_the_limits(its: Ruleset, entry: Entry, why: str) -> None:
    answer = foreign(its).put([entry, *blocks("10.0.0.0/16", "2001:db8::/32")])
    assert [it.why for it in answer.refused] == [why]
    assert len(answer.taken) == len(held(its)) == 2


def test_an_end_that_has_just_passed_is_no_error(its: Ruleset) -> None:
    fleet = foreign(its)
    fleet.put([block("10.0.0.1", NOW + 1)])
    answer = fleet.put([block("10.0.0.1", NOW - 299), block("10.0.0.2", NOW)])
    assert (len(answer.ended), answer.taken, answer.refused) == (2, [], [])
    assert held(its) == {}
    assert foreign(its, limits=ForeignLimits(clock_skew="10s")).put([block("10.0.0.1", NOW - 11)]).ended == []


def test_too_many_are_refused_and_the_first_stay(its: Ruleset, maps: FakeMaps) -> None:
    its.rules.add("block", prefixes("10.9.0.1", "10.9.0.2", "10.9.0.3"), "", "cli", None)
    few = foreign(its, limits=ForeignLimits(max_entries=2))
    answer = few.replace(blocks("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    assert refused(answer) == {"10.0.0.3": "this origin may have 2 entries"}
    assert refused(few.put(blocks("10.0.0.4", "10.0.0.2"))) == {"10.0.0.4": "this origin may have 2 entries"}
    assert set(held(its)) > {"10.0.0.1", "10.0.0.2"}
    few.remove("block", prefixes("10.0.0.1"))
    assert few.put(blocks("10.0.0.4")).refused == []
    # The tables are bounded as well.
    with maps.tables() as tables:
        tables.capacity = 6
    answer = foreign(its).replace(blocks("10.9.0.1", "10.0.0.5", "10.0.0.2", "10.0.0.6", "10.0.0.7"))
    assert refused(answer) == {"10.0.0.7": "the tables have no room for more rules"}
    assert there(maps) == {"10.9.0.1", "10.9.0.2", "10.9.0.3", "10.0.0.5", "10.0.0.2", "10.0.0.6"}
    assert refused(foreign(its).put(blocks("10.0.0.8"))) == {"10.0.0.8": "the tables have no room for more rules"}


def test_a_mode_is_changed_in_one_change(its: Ruleset, maps: FakeMaps) -> None:
    wanted = blocks("10.0.0.1", "10.0.0.2")
    foreign(its, limits=SHADOW).replace(wanted)
    assert (there(maps), there(maps, "shadow")) == (set(), {"10.0.0.1", "10.0.0.2"})
    assert held(its, "shadow")["10.0.0.1"] == [(FLEET, "", None)]
    steps: list[str] = []
    its.changes.step = steps.append
    foreign(its).replace(wanted)
    assert (there(maps), there(maps, "shadow")) == ({"10.0.0.1", "10.0.0.2"}, set())
    assert steps.count("commit") == 1
    foreign(its, limits=SHADOW).put(wanted[:1])
    assert (there(maps), there(maps, "shadow")) == ({"10.0.0.2"}, {"10.0.0.1"})
    assert foreign(its).remove("block", prefixes("10.0.0.1", "10.0.0.2")) == 2
    assert (there(maps), there(maps, "shadow")) == (set(), set())


def test_nothing_is_let_through_in_shadow_mode(its: Ruleset) -> None:
    wanted = [block("10.0.0.1", kind="allow")]
    why = "in shadow mode this origin lets nothing through"
    assert refused(foreign(its, limits=ForeignLimits(mode="shadow", allow=True)).replace(wanted)) == {"10.0.0.1": why}
    assert foreign(its, limits=ALL).replace(wanted).refused == []
    assert [rule.origins for rule in its.store.rules("allow")] == [[FLEET]]


def filters(its: Ruleset) -> list[str]:
    return [it.name for it in its.filters.alive()]


def test_filters_come_behind_those_of_the_host(its: Ruleset, maps: FakeMaps) -> None:
    its.filters.apply([new("mine").stored(1, NEW)])
    bgp = foreign(its, BGP, ALL)
    assert bgp.replace([new("b"), new("a")]).refused == []
    assert filters(its) == ["mine", "b", "a"]
    assert {it.name: it.source for it in its.filters.alive()} == {"mine": "cli", "a": BGP, "b": BGP}
    bgp.put([new("c"), new("b", "udp sport 123")])
    assert filters(its) == ["mine", "b", "a", "c"]
    assert len(maps.filters.there) == 4
    assert refused(bgp.put([new("mine", "tcp dport 80")])) == {
        "mine": "there is another filter of this name here, of origin cli"
    }
    assert (bgp.remove_filters(["a", "mine", "none"]), filters(its)) == (1, ["mine", "b", "c"])
    foreign(its, BGP, ForeignLimits(mode="shadow", filters=True)).replace([new("b"), new("c")])
    assert [it.mode for it in its.filters.alive()] == ["enforce", "shadow", "shadow"]
    bgp.replace([new("b")._replace(mode="shadow"), new("c")])
    assert [it.mode for it in its.filters.alive()] == ["enforce", "shadow", "enforce"], "as it was meant"
    bgp.replace([])
    assert filters(its) == ["mine"]


def test_filters_that_are_refused(its: Ruleset, needed: list[Protected]) -> None:
    login = Protected(prefixes("10.0.0.1")[0], LOGIN, (Port(22, "tcp"),), "sshd")
    needed.append(login)
    wanted: list[NewFilter] = [
        new("ssh", "tcp dport 22"), new("list", "ip saddr @nowhere"), new("open", "tcp dport 80", "pass"), new("dns")
    ]  # fmt: skip
    found = refused(foreign(its, BGP, ForeignLimits(filters=True)).replace(wanted))
    assert found == {
        "open": "this origin may not let anything through (allow = false)",
        "list": "it asks the list nowhere, which is not here",
        "ssh": f"10.0.0.1 is {login.words}, and it would drop its packets",
    }
    assert filters(its) == ["dns"]
    its.rules.add("allow", [login.address], "", "cli", None)
    assert "ssh" not in refused(foreign(its, BGP, ForeignLimits(filters=True)).replace(wanted))
    assert filters(its) == ["ssh", "dns"]
    many = foreign(its, BGP, ForeignLimits(filters=True)).replace([new(f"f{n}") for n in range(FILTERS + 2)])
    assert [str(it.target) for it in many.refused] == [f"f{FILTERS}", f"f{FILTERS + 1}"]


def test_a_failure_leaves_everything_as_it_was(its: Ruleset, maps: FakeMaps) -> None:
    fleet = foreign(its, limits=ALL)
    fleet.replace([*blocks("10.0.0.1"), new("a")])
    before, kernel = held(its), there(maps)
    maps.filters.broken = True
    with pytest.raises(XdpguardError, match="Cannot allocate memory"):
        fleet.replace([*blocks("10.0.0.2"), new("b")])
    assert (held(its), there(maps), filters(its)) == (before, kernel, ["a"])


def test_a_reason_is_one_plain_line(its: Ruleset) -> None:
    foreign(its).put([block("10.0.0.1", reason="a\x1b[31m\n" + "b" * 1000), block("10.0.0.2", reason="\ud800")])
    (first,), (second,) = held(its).values()
    assert first[1].startswith("a\\x1b[31m\\nbbb")
    assert len(first[1]) == 200
    assert second[1] == "\\ud800"


def test_what_is_asked_for_twice_lasts_as_the_longer(its: Ruleset) -> None:
    foreign(its).replace([block("10.0.0.1", NOW + 9, "a"), block("10.0.0.1", NOW + 5, "b")])
    assert held(its) == {"10.0.0.1": [(FLEET, "a", NOW + 9)]}


@pytest.mark.parametrize("name", ["cli", CONFIG, "guard", SAFETY, "", "Fleet", "-x", "a" * 33, "a b", "a_b", "é"])
def test_names_that_are_no_such_origin(its: Ruleset, name: str) -> None:
    with pytest.raises(UsageError, match="not an origin"):
        Foreign(its, name)
    for origin in (FLEET, CROWDSEC, BGP, FAIL2BAN, "my-tool2", "a" * 32):
        check_origin(origin)


def test_limits_are_read_from_toml() -> None:
    text = b'mode = "shadow"\nmax_entries = 5\nshortest4 = 8\nallow = true'
    assert msgspec.toml.decode(text, type=ForeignLimits) == ForeignLimits("shadow", 5, 8, allow=True)
    for wrong in (b"shortest4 = 0", b"shortest6 = 0", b'mode = "off"', b"max_entries = 0", b"some = 1"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.toml.decode(wrong, type=ForeignLimits)


def test_overlaps_are_found_as_by_looking_at_each() -> None:
    chance = random.Random(7)

    def any_prefix() -> Prefix:
        if chance.random() < 0.5:
            return parse_prefix(f"10.0.{chance.randrange(4)}.{chance.randrange(256)}/{chance.randrange(20, 33)}")[0]
        return parse_prefix(f"2001:db8::{chance.randrange(64):x}/{chance.randrange(118, 129)}")[0]

    for _ in range(200):
        held = [any_prefix() for _ in range(chance.randrange(6))]
        found = Overlaps((it, "") for it in held)
        for _ in range(20):
            asked = any_prefix()
            overlapping = [it for it in held if it.covers(asked) or asked.covers(it)]
            answer = found.of(asked)
            assert (answer is not None) == bool(overlapping)
            assert answer is None or answer[0] in overlapping


def test_many_entries_take_little_time(its: Ruleset) -> None:
    """CPU time; five times as many take a few seconds."""
    wanted = [NewRule("block", Prefix((10 << 24 | n).to_bytes(4, "big"), 32), "", "", 0.0, None) for n in range(20_000)]

    def took(run: Callable[[], object]) -> float:
        begin = time.process_time()  # others may use the CPUs
        run()
        return time.process_time() - begin

    judge = Judge(ForeignLimits(), NOW, [(parse_prefix("192.0.2.1")[0], "")], [])
    assert took(lambda: [judge.refusal(it) for it in wanted]) < patient(1)
    first = took(lambda: foreign(its).replace(wanted))
    again = took(lambda: foreign(its).replace(wanted))
    one = took(lambda: foreign(its).put(blocks("192.0.2.1")))
    assert first < patient(3)
    assert again < patient(1)
    assert one < patient(0.1)


def test_a_promotion_says_that_another_system_decides_the_mode(its: Ruleset) -> None:
    foreign(its, limits=SHADOW).put(blocks("10.0.0.1"))
    its.shadow_rules.add("block", prefixes("10.0.0.2"), "", "cli", None)
    assert promote.choose(its, prefixes("10.0.0.2"), [], [], everything=False).notes == []
    chosen = promote.choose(its, prefixes("10.0.0.1"), [], [], everything=False)
    assert chosen.notes == [
        "what is of origin fleet becomes a shadow entry again with the next update from there, while that is in"
        " shadow mode"
    ]
    promote.promote(its, chosen, force=False)
    assert held(its) == {"10.0.0.1": [(FLEET, "", None)]}
    foreign(its, limits=SHADOW).replace(blocks("10.0.0.1"))
    assert (held(its), set(held(its, "shadow"))) == ({}, {"10.0.0.1", "10.0.0.2"})
