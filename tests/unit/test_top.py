# SPDX-License-Identifier: GPL-2.0
"""The live screen: what its keys do, and what it shows when there is nothing to show."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from support.screen import WALL, Screen, World, counters, filtered, listening, named, run, seen

from xdpguard.errors import XdpguardError
from xdpguard.net import sockets
from xdpguard.net.sockets import Protected
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import parse_prefix
from xdpguard.store.database import Store
from xdpguard.tcp.snapshot import Listener
from xdpguard.telemetry.counters import Counters
from xdpguard.telemetry.dropped import Share
from xdpguard.tui.board import Board, colourless
from xdpguard.tui.reading import Seen

FLOOD = [
    ("198.51.100.7", "192.0.2.1", 80, 5000),
    ("203.0.113.9", "192.0.2.1", 443, 300),
    ("2001:db8::5", "2001:db8::1", 80, 40),
]


def rule(number: int, target: str, kind: str = "block", expires: float | None = None, reason: str = "") -> Rule:
    return Rule(number, kind, parse_prefix(target)[0], reason, "cli", WALL - 99, expires, number, 0, 0)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, tuples=list(FLOOD))


def stored(world: World) -> list[tuple[str, str, float | None]]:
    with Store(world.store) as store:
        return [(it.kind, str(it.target), it.expires and it.expires - it.created) for it in store.rules()]


@pytest.mark.parametrize("size", [(80, 24), (60, 14), (100, 30), (160, 48), (250, 70)])
def test_every_line_is_as_wide_as_the_terminal(world: World, size: tuple[int, int]) -> None:
    world.rules = [rule(1, "198.51.100.0/24", reason="a reason\u3042 that is wide" * 5)]

    async def test(screen: Screen) -> None:
        for key in "1234567?":
            await screen.press("question_mark" if key == "?" else key)
            board = screen.app.query_one(Board)
            assert [board.render_line(row).cell_length for row in range(size[1])] == [size[0]] * size[1]

    run(world, test, size)


def test_rates_by_verdict_reason_and_flag(world: World) -> None:
    world.interfaces = (seen(counts=counters({"pass": 1000, "deny": 50}, syn=100)),)

    async def test(screen: Screen) -> None:
        world.interfaces = (seen(counts=counters({"pass": 3000, "deny": 250, "cookie_sent": 7}, syn=1600)),)
        await screen.step()
        assert screen.line("pass").split()[1:3] == ["2.00k", "3.00k"]
        assert screen.line("drop").split()[1:3] == ["200", "250"]
        assert screen.line("answer").split()[1:3] == ["7", "7"]
        assert screen.line("deny").split()[:4] == ["deny", "drop", "200", "250"]
        screen.has("syn 1.5k", "▇", " test  eth0  native", "counting 1m", "every 3600 s")
        screen.has_not("malformed", "STALE")

    run(world, test)


def test_counters_that_begin_anew_give_no_rate(world: World) -> None:
    world.interfaces = (seen(counts=counters({"pass": 1000})),)

    async def test(screen: Screen) -> None:
        world.interfaces = (seen(counts=counters({"pass": 10})),)
        await screen.step()
        assert screen.line("pass").split()[1:3] == ["-", "10"]

    run(world, test)


def test_what_is_only_observed_has_passed(world: World) -> None:
    world.interfaces = (seen(counts=counters({"deny": 0}, observed=True)),)

    async def test(screen: Screen) -> None:
        world.interfaces = (seen(counts=counters({"deny": 400}, observed=True)),)
        await screen.step()
        assert screen.line("pass").split()[1] == "400"
        assert screen.line("drop").split()[1] == "0"
        screen.has("(drop)", "only observed")

    run(world, test)


def test_a_rule_that_reuses_a_number_has_no_rate_yet(world: World) -> None:
    world.rules, world.hits = [rule(1, "198.51.100.7")], {1: 500}

    async def test(screen: Screen) -> None:
        await screen.press("5")
        world.hits = {1: 600}
        await screen.step()
        assert screen.line("block").split()[2:4] == ["100", "600"]
        world.rules, world.hits = [rule(1, "203.0.113.9")._replace(created=WALL)], {1: 700}
        await screen.step()
        assert screen.line("block").split()[1:4] == ["203.0.113.9", "-", "700"]

    run(world, test)


def test_a_shadow_list_beside_a_list_of_its_name(world: World) -> None:
    world.lists = (named("bad", 12), named("bad", 3, "shadow"))

    async def test(screen: Screen) -> None:
        await screen.press("6")
        world.lists = (named("bad", 22), named("bad", 8, "shadow"))
        await screen.step()
        assert screen.line("block").split()[:4] == ["block", "bad", "10", "22"]
        assert screen.line("shadow").split()[:4] == ["shadow", "bad", "5", "8"]

    run(world, test)


def test_filters_with_their_rates_and_whom_they_drop(world: World) -> None:
    world.filters = (filtered("dns", 100), filtered("slow", 50, 20, "10/s"), filtered("maybe", 5, shadow=True))
    source = socket.inet_aton("203.0.113.9"), 0
    other = socket.inet_aton("203.0.113.10"), 0

    async def test(screen: Screen) -> None:
        await screen.press("8")
        assert screen.line("1 dns").split() == ["1", "dns", "drop", "-", "100", "-", "udp", "sport", "53"]
        world.filters = (filtered("dns", 400), filtered("slow", 60, 25, "10/s"), filtered("maybe", 6, shadow=True))
        world.filtered = {3: {other: Share(80, 9, 1), source: Share(60, 9, 30)}}
        await screen.step()
        assert screen.line("1 dns").split()[1:6] == ["dns", "drop", "300", "400", "-"]
        assert "mostly 203.0.113.9" in screen.line("1 dns"), "one sample may be chance"
        assert screen.line("2 slow").split()[1:8] == ["slow", "limit", "10/s", "10", "60", "25", "udp"]
        assert screen.line("3 maybe").split()[1:5] == ["maybe", "(drop)", "1", "6"]
        screen.has("above the limit")
        await screen.press("s")
        assert screen.rows("1 dns", "2 slow", "3 maybe") == ["1 dns", "2 slow", "3 maybe"]
        world.filters = (filtered("dns", 400), filtered("slow", 90, 25, "10/s"), filtered("maybe", 6, shadow=True))
        await screen.step()
        assert screen.rows("1 dns", "2 slow", "3 maybe") == ["2 slow", "1 dns", "3 maybe"]
        await screen.press("slash", *"maybe", "enter")
        assert screen.rows("1 dns", "2 slow", "3 maybe") == ["3 maybe"]

    run(world, test)


def test_a_filter_that_was_replaced_has_no_rate_yet(world: World) -> None:
    world.filters = (filtered("dns", 100),)

    async def test(screen: Screen) -> None:
        await screen.press("8")
        its = filtered("dns", 900)
        world.filters = (its._replace(its=its.its._replace(slot=77)),)
        await screen.step()
        assert screen.line("1 dns").split()[3] == "-"

    run(world, test)


def test_tables_by_number_and_tab(world: World) -> None:
    world.lists = (named("firehol", 12),)
    world.rules = [rule(1, "198.51.100.7", reason="brute force", expires=WALL + 600)]

    async def test(screen: Screen) -> None:
        await screen.press("2")
        screen.has("198.51.100.7", "203.0.113.9", "2001:db8::5", "blocked")
        await screen.press("tab")
        screen.has("192.0.2.1")
        await screen.press("4")
        assert [line.split()[1] for line in screen.lines() if "192.0.2.1 " in line] == ["80", "443"]
        await screen.press("5")
        screen.has("brute force", "9m 5")
        await screen.press("6")
        screen.has("firehol", "12")
        await screen.press("7")
        screen.has("attached")
        await screen.press("tab")
        screen.has("▲no.", "8 filters", "7 links")
        await screen.press("tab")
        screen.has("verdict")
        await screen.press("shift+tab", "left", "left")
        screen.has("firehol.txt")

    run(world, test)


def test_sorting_and_the_other_way_round(world: World) -> None:
    world.tuples = [("10.0.0.3", "192.0.2.1", 80, 5), ("10.0.0.1", "192.0.2.1", 80, 7), ("10.0.0.2", "192.0.2.1", 1, 7)]
    names = ("10.0.0.1", "10.0.0.2", "10.0.0.3")

    async def test(screen: Screen) -> None:
        await screen.press("2")
        assert screen.rows(*names) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "those that are alike by address"
        screen.has("▼SYNs")
        await screen.press("r")
        assert screen.rows(*names) == ["10.0.0.3", "10.0.0.2", "10.0.0.1"]
        screen.has("▲SYNs")
        await screen.press("s")
        screen.has("▼SYN/s", "sorted by rate")
        await screen.press("s", "r")
        assert screen.rows(*names) == ["10.0.0.3", "10.0.0.2", "10.0.0.1"]

    run(world, test)


def test_rules_are_sorted_by_hits_then_age(world: World) -> None:
    world.rules = [rule(1, "10.0.0.1", expires=WALL + 900), rule(2, "10.0.0.2"), rule(3, "10.0.0.3", expires=WALL + 60)]
    world.hits = {2: 10}
    names = ("block  10.0.0.1", "block  10.0.0.2", "block  10.0.0.3")

    async def test(screen: Screen) -> None:
        world.hits = {2: 10, 3: 500}
        await screen.step()
        await screen.press("5")
        assert screen.rows(*names) == [names[2], names[1], names[0]]
        assert screen.line("block  10.0.0.3").split()[2:4] == ["500", "500"]
        await screen.press("s", "s")
        assert screen.rows(*names) == [names[2], names[0], names[1]], "by what ends first"
        await screen.press("s")
        assert screen.rows(*names) == list(names), "by age"

    run(world, test)


def test_a_shadow_rule_is_shown_as_one(world: World) -> None:
    world.rules = [rule(1, "10.0.0.1"), rule(1, "10.0.0.2")._replace(mode="shadow", slot=5)]

    async def test(screen: Screen) -> None:
        await screen.press("5")
        screen.has("shadow 10.0.0.2", "block  10.0.0.1")
        await screen.press("down", "u")
        screen.has("xdpguard unblock --shadow")

    run(world, test)


def test_the_chosen_row_is_followed(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("2", "down", "down")
        world.tuples = [("2001:db8::5", "2001:db8::1", 80, 90_000), *FLOOD[:2]]
        await screen.step()
        assert screen.rows("2001:db8::5", "198.51.100.7") == ["2001:db8::5", "198.51.100.7"]
        await screen.press("b")
        screen.has("block 2001:db8::5 for 10m?")

    run(world, test)


def test_scrolling_through_more_than_fits(world: World) -> None:
    world.tuples = [(f"10.0.{n // 256}.{n % 256}", "192.0.2.1", 80, 9000 - n) for n in range(2000)]

    async def test(screen: Screen) -> None:
        await screen.press("2", "pagedown")
        screen.has("10.0.0.11 ")
        screen.has_not("10.0.0.0 ")
        await screen.press("end")
        screen.has("10.0.3.231 ")
        await screen.press("home")
        screen.has("10.0.0.0 ")
        screen.has_not("10.0.0.40")

    run(world, test)


def test_a_filter_is_typed(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("2", "slash", *"203")
        screen.has("filter: 203", "203.0.113.9")
        screen.has_not("198.51.100.7", "2001:db8::5")
        await screen.press("backspace", "backspace", "backspace", *"q", "enter")
        screen.has("nothing matches the filter", "filter: q")
        await screen.press("escape")
        screen.has("198.51.100.7", "2001:db8::5")
        await screen.press("slash", *"2001:db8", "enter")
        assert screen.rows("198.51.100.7", "203.0.113.9", "2001:db8::5") == ["2001:db8::5"]
        await screen.press("4", "slash", *":443", "enter")
        assert [line.split()[1] for line in screen.lines() if "192.0.2.1 " in line] == ["443"]

    run(world, test)


def test_pausing_stops_the_picture_only(world: World) -> None:
    world.interfaces = (seen(counts=counters({"deny": 1000})),)

    async def test(screen: Screen) -> None:
        await screen.press("space")
        screen.has("PAUSED")
        world.interfaces = (seen(counts=counters({"deny": 4000})),)
        await screen.step()
        screen.has("1.00k")
        screen.has_not("4.00k")
        await screen.press("p")
        screen.has("4.00k")
        screen.has_not("PAUSED")

    run(world, test)


def test_resizing(world: World) -> None:
    async def test(screen: Screen) -> None:
        screen.has_not("203.0.113.9")
        await screen.pilot.resize_terminal(160, 48)
        await screen.pilot.pause()
        screen.has(
            "1 reasons", "203.0.113.9", "3 destinations", "4 ports", "5 rules", "6 lists", "7 interfaces", "8 filters"
        )
        assert len(screen.lines()) == 48
        await screen.pilot.resize_terminal(30, 8)
        await screen.pilot.pause()
        screen.has("30x8 is too small")
        await screen.pilot.resize_terminal(80, 24)
        await screen.pilot.pause()
        screen.has("verdict")

    run(world, test)


def test_nothing_to_read_and_then_something(world: World) -> None:
    world.fault = XdpguardError("nothing is attached", "attach an interface first")

    async def test(screen: Screen) -> None:
        screen.has("STALE", "nothing is attached")
        world.fault = None
        await screen.step()
        screen.has("verdict")
        screen.has_not("STALE")

    run(world, test)


def test_figures_that_do_not_come_are_stale(world: World) -> None:
    world.interfaces = (seen(counts=counters({"deny": 1000})),)

    async def test(screen: Screen) -> None:
        world.fault = OSError(5, "Input/output error")
        await screen.step()
        screen.has("STALE", "Input/output error", "1.00k")
        world.fault = None
        await screen.step()
        screen.has_not("STALE")

    run(world, test)


def test_a_reading_that_hangs_makes_them_stale(world: World) -> None:
    async def test(screen: Screen) -> None:
        screen.app.view.interval = 0.01
        screen.app._at -= 100
        screen.app._watch()
        screen.has("STALE 1m 40s: no reading arrived")

    run(world, test)


def test_an_interface_vanishes_and_comes_back(world: World) -> None:
    async def test(screen: Screen) -> None:
        world.interfaces = (seen(state="gone"),)
        await screen.step()
        screen.has("STALE", "the interface no longer exists")
        world.interfaces = (seen(),)
        await screen.step()
        screen.has_not("STALE")

    run(world, test)


def test_all_interfaces_together_and_each_alone(world: World) -> None:
    """Together their figures are the sums; the table has the busiest first; the guard shown is that of the flooded."""
    world.interfaces = (seen("eth0", counters({"deny": 1000})), seen("eth1", counters({"deny": 2000})))

    async def test(screen: Screen) -> None:
        screen.has("all 2 interfaces", "3.00k")
        world.interfaces = (
            seen("eth0", counters({"deny": 1100, "pass": 100}), active=WALL - 10, guarding={"cause": 2, "port": 80}),
            seen("eth1", counters({"deny": 4000})),
        )
        await screen.step()
        assert screen.line("drop").split()[1:5] == ["2.10k", "5.10k", "1.01M", "95.5%"]
        screen.has("ACTIVE on eth0 13s")
        await screen.press("7")
        assert screen.rows("eth0", "eth1") == ["eth1", "eth0"]
        assert screen.line("eth0").split()[-3:] == ["100", "50.0%", "active"]
        await screen.press("i")
        screen.has(" eth0  native", "1.10k")
        await screen.press("i")
        screen.has(" eth1  native", "4.00k")
        assert screen.line("guard").split()[1] == "idle,"
        await screen.press("i")
        screen.has("all 2 interfaces")
        await screen.press("down", "enter")
        screen.has(" eth0  native")
        world.interfaces = (seen("eth0", state="gone"), world.interfaces[1])
        await screen.press("i", "i")
        await screen.step()
        screen.has("all 2 interfaces, 1 attached")
        world.interfaces = world.interfaces[1:]
        await screen.step()
        screen.has(" eth1  native")

    run(world, test)


def test_the_interface_that_was_asked_for_comes_first(world: World) -> None:
    world.interfaces = (seen("eth0", counters({"deny": 1000})), seen("eth1", counters({"deny": 2000})))
    world.place = ("eth1", "")

    async def test(screen: Screen) -> None:
        screen.has(" eth1  native", "2.00k")
        screen.has_not("3.00k")

    run(world, test)


@pytest.mark.parametrize(
    ("mode", "values", "words"),
    [
        ("auto", {}, "idle, watching (auto)"),
        ("auto", {"floods": 3}, "floods so far: 3"),
        ("always", {}, "every SYN is answered with a cookie"),
        ("off", {}, "off"),
        ("always", {"mute": 1}, "ANSWERS NO SYN: its answers would not arrive"),
        ("auto", {"mute": 2}, "ANSWERS NO SYN: the data plane found that its answers do not arrive"),
        ("off", {"mute": 1}, "off"),
        ("observe", {"mute": 1}, "idle, watching (observe)"),
    ],
)
def test_the_guard(world: World, mode: str, values: dict[str, int], words: str) -> None:
    world.mode = mode
    world.interfaces = (seen(guarding=values),)

    async def test(screen: Screen) -> None:
        assert words in screen.line("guard")

    run(world, test)


def test_the_guard_under_a_flood(world: World) -> None:
    world.interfaces = (seen(active=WALL - 10, guarding={"cause": 1, "port": 80}),)

    async def test(screen: Screen) -> None:
        world.interfaces = (
            seen(counts=counters({"cookie_sent": 5000}), active=WALL - 10, guarding={"cause": 1, "port": 80}),
        )
        await screen.step()
        screen.has("ACTIVE 13s, since", "a listener's queue is full, port 80", "cookies 5.00k/s")

    run(world, test)


@pytest.mark.parametrize(
    ("listeners", "guarding", "words"),
    [
        ([], {}, "backlog  no listeners"),
        ([listening(80), listening(443)], {}, "192.0.2.1:80 half-open 0/128; accept queue 0/128"),
        (
            [listening(443, to_accept=128), listening(80, half_open=90, again=70)],
            {},
            "192.0.2.1:443 half-open 0/128; accept queue 128/128",
        ),
        (
            [listening(443, to_accept=128), listening(80, half_open=90, again=70)],
            {"cause": 1, "port": 80},
            "192.0.2.1:80 half-open 90/128 (70 retransmitted); accept queue 0/128",
        ),
    ],
)
def test_the_backlog_is_that_of_the_fullest_or_the_flooded_listener(
    world: World, listeners: list[Listener], guarding: dict[str, int], words: str
) -> None:
    world.interfaces = (seen(active=WALL - 10 if guarding else 0.0, guarding=guarding, listeners=listeners),)

    async def test(screen: Screen) -> None:
        assert screen.line("backlog").rstrip().endswith(words)

    run(world, test)


def flooded(name: str, counts: Counters, **guarding: int) -> Seen:
    return seen(name, counts, active=WALL - 10, guarding={"cause": 2, "port": 80} | guarding)


def test_the_banner_counts_the_real_clients_since_the_flood_began(world: World) -> None:
    def counted(cookies: int, valid: int) -> Counters:
        return replace(counters({"cookie_sent": cookies}, syn=cookies), cookies_valid=valid)

    world.interfaces = (seen("eth0", counted(100, 90)), seen("eth1"))

    async def test(screen: Screen) -> None:
        screen.has_not("FLOOD")
        world.interfaces = (flooded("eth0", counted(60_100, 100)), seen("eth1"))
        await screen.step()
        banner = "SPOOFED FLOOD on eth0 for 13s: 60.0k SYN/s (SYN rate, port 80); real clients got through"
        screen.has(f"{banner} 10 of 10")
        world.interfaces = (replace(flooded("eth0", counted(90_100, 130)), overflows=7), seen("eth1"))
        await screen.step()
        screen.has("real clients got through at least 33 of 40")
        await screen.press("i", "i")
        screen.has("FLOOD on eth0", " eth1  native")
        await screen.pilot.resize_terminal(60, 24)
        await screen.pilot.pause()
        screen.has("SPOOFED FLOOD: 30.0k SYN/s; real clients")
        world.mode = "observe"
        await screen.step()
        screen.has("only observed")
        world.mode, world.interfaces = "auto", (seen("eth0", counted(90_100, 130)), seen("eth1"))
        await screen.step()
        screen.has_not("FLOOD")

    run(world, test, (120, 30))


def test_a_flood_that_began_before_the_screen_is_counted_from_its_start(world: World) -> None:
    counts = counters({"cookie_sent": 500}, syn=500)
    world.interfaces = (flooded("eth0", replace(counts, cookies_valid=400)),)

    async def test(screen: Screen) -> None:
        screen.has("no real client has come yet")
        world.interfaces = (flooded("eth0", replace(counts, cookies_valid=404)),)
        await screen.step()
        screen.has("real clients got through 4 of 4 since top began")
        world.interfaces = (flooded("eth0", replace(counts, cookies_valid=404), mute=1),)
        await screen.step()
        screen.has("left to the kernel")

    run(world, test, (120, 30))


def test_random_addresses_are_one_line(world: World) -> None:
    crowd = [(f"10.{n // 256}.{n % 256}.9", "192.0.2.1", 80, 1) for n in range(3000)]
    world.tuples = [("198.51.100.7", "192.0.2.1", 80, 500), *crowd]
    world.chance = Share(40.0, 4.0, 9)

    async def test(screen: Screen) -> None:
        await screen.press("2")
        row = "3.00k others, \u22644 SYNs each"
        assert screen.line(row).split()[-4:] == ["3.00k", "3.00k", "4", "40"]
        assert screen.rows(row, "198.51.100.7", "10.") == [row, "198.51.100.7"]
        await screen.press("b")
        screen.has("these are many sources")
        await screen.press("slash", *"10.0.1.", "enter")
        assert screen.rows(row, "10.0.1.9") == ["10.0.1.9"]
        await screen.press("escape", "r")
        assert screen.rows(row, "198.51.100.7") == ["198.51.100.7", row]
        world.tuples = world.tuples[:900]
        await screen.step()
        screen.has("10.3.1")
        screen.has_not("others")

    run(world, test)


def test_the_rule_that_decides_is_shown_also_where_it_is_a_prefix_or_a_list(world: World) -> None:
    world.rules = [
        rule(1, "198.51.100.0/24"),
        rule(2, "2001:db8::/32", "allow"),
        rule(3, "203.0.113.0/24", expires=WALL - 5),
        rule(4, "192.0.2.9")._replace(mode="shadow"),
        rule(5, "198.51.100.8"),
    ]
    world.lists = (named("bots", 5),)
    source = socket.inet_aton("203.0.113.9")
    world.tuples += [("192.0.2.9", "192.0.2.1", 80, 9), ("198.51.100.8", "192.0.2.1", 80, 9)]

    async def test(screen: Screen) -> None:
        await screen.press("2")
        assert screen.line("198.51.100.7").split()[-2:] == ["blocked", "/24"]
        assert screen.line("198.51.100.8").split()[-1] == "blocked"
        assert screen.line("2001:db8::5").split()[-2:] == ["allowed", "/32"]
        assert screen.line("192.0.2.9").split()[-2:] == ["shadow", "/32"]
        assert screen.line("203.0.113.9").split()[-1] == "0", "the rule has ended"
        world.dropped = {"source": {(source, 0): Share(80, 9, 30)}}
        world.decided = {source: (2, 0)}
        await screen.step()
        assert screen.line("203.0.113.9").split()[-2:] == ["list", "bots"]

    run(world, test)


def test_blocking_a_source_that_may_be_forged_is_warned_of(world: World) -> None:
    world.connected = {"203.0.113.9"}

    async def test(screen: Screen) -> None:
        await screen.press("2", "b")
        screen.has("198.51.100.7 has no connection here, so it may be", "block 198.51.100.7 for 10m?")
        await screen.press("n", "down", "b")
        screen.has("block 203.0.113.9 for 10m?")
        screen.has_not("may be forged")

    run(world, test)


@pytest.mark.parametrize("size", [(110, 24), (120, 40), (180, 30), (200, 50)])
def test_tables_stand_side_by_side_and_the_one_in_front_is_among_them(world: World, size: tuple[int, int]) -> None:
    world.rules = [rule(number, f"10.0.0.{number}") for number in range(1, 90)]
    names = ("reasons", "sources", "destinations", "ports", "rules", "lists", "interfaces", "filters")

    async def test(screen: Screen) -> None:
        for number, name in enumerate(names, start=1):
            await screen.press(str(number))
            screen.has(f" {number} {name} ", " 1 reasons " if name != "reasons" and size[1] > 24 else "", "sources")

    run(world, test, size)


def test_an_address_is_whole_while_there_is_room(world: World) -> None:
    address = "2001:db8:1234:5678:9abc:def0:1234:5678"
    world.tuples = [(address, "2001:db8::1", 80, 40)]
    world.rules = [rule(1, f"{address}/128", reason="words")]

    async def test(screen: Screen) -> None:
        assert screen.text().count(address) == 2, screen.text()

    run(world, test, (120, 40))


def test_blocking_asks_first(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("2", "b")
        screen.has("block 198.51.100.7 for 10m?")
        await screen.press("n")
        screen.has("nothing was changed")
        await screen.press("b", "x", "right", "right")
        screen.has("block 198.51.100.7 for 1d?")
        await screen.press("escape")
        assert stored(world) == []
        await screen.press("b", "y")
        await screen.sees("blocked 198.51.100.7 for 10m")
        assert stored(world) == [("block", "198.51.100.7", 600)]
        await screen.press("b", *["right"] * 9, "left", "left", "left", "left", "left", "y")
        await screen.sees("198.51.100.7 is already blocked until")

    run(world, test)


def test_allowing_and_unblocking(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("2", "a", *["right"] * 4)
        screen.has("allow 198.51.100.7 for good?")
        await screen.press("y")
        await screen.sees("allowed 198.51.100.7 for good")
        await screen.press("b", "y")
        await screen.sees("the allow rule overrides it")
        await screen.press("u")
        screen.has("unblock 198.51.100.7?")
        await screen.press("y")
        await screen.sees("unblocked 198.51.100.7")
        await screen.press("u", "y")
        await screen.sees("not done: 198.51.100.7 is not blocked")
        assert stored(world) == [("allow", "198.51.100.7", None)]
        world.rules = [rule(1, "198.51.100.7", "allow")]
        await screen.step()
        await screen.press("5", "u")
        screen.has("disallow 198.51.100.7?")
        await screen.press("y")
        await screen.sees("no longer allowed: 198.51.100.7")
        assert stored(world) == []

    run(world, test)


def test_what_safety_refuses_is_shown_and_not_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = Protected(parse_prefix("198.51.100.7")[0], "the other end of an SSH session to this host")
    monkeypatch.setattr(sockets, "protected", lambda: [needed])

    async def test(screen: Screen) -> None:
        await screen.press("2", "b", "y")
        await screen.sees("not done: 198.51.100.7 is the other end of an SSH session to this host; allow it first")
        assert stored(world) == []

    run(world, test)


def test_nobody_to_block(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("1", "b")
        screen.has("select a source first")
        await screen.press("3", "u")
        screen.has("select a source first")

    run(world, test)


def test_a_held_lock_is_told_and_the_screen_goes_on(world: World) -> None:
    world.waits = threading.Event()

    async def test(screen: Screen) -> None:
        assert world.waits is not None
        await screen.press("2", "b", "y")
        await screen.sees("waiting for another xdpguard command (process 77)")
        await screen.press("down", "b")
        screen.has("a change is in progress")
        await screen.press("question_mark")
        screen.has("Ctrl-C")
        world.waits.set()
        await screen.press("q")
        await screen.sees("blocked 198.51.100.7 for 10m")

    run(world, test)


def test_quitting_while_a_lock_is_held_changes_nothing(world: World) -> None:
    world.waits = threading.Event()

    async def test(screen: Screen) -> None:
        await screen.press("2", "b", "y")
        await screen.sees("waiting for another")
        await screen.press("q")

    run(world, test)
    assert stored(world) == []


def test_help_and_back(world: World) -> None:
    async def test(screen: Screen) -> None:
        await screen.press("question_mark")
        screen.has("left and right set how long", "Tables 5, 6 and 8 have the exact hits", "any key")
        await screen.press("b")
        screen.has("verdict")

    run(world, test)


def test_an_error_of_its_own_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(board: Board) -> None:
        raise RuntimeError(f"{board} is broken on purpose")

    async def test(screen: Screen) -> None:
        monkeypatch.setattr(Board, "redraw", fails)
        await screen.press("1")

    with pytest.raises(RuntimeError, match="on purpose"):
        run(world, test)


@pytest.mark.parametrize(
    ("environment", "without"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True),
        ({"TERM": "vt100"}, True),
        ({"TERM": "dumb"}, True),
        ({"TERM": "screen"}, False),
    ],
)
def test_colour(environment: dict[str, str], without: bool) -> None:
    assert colourless(environment) is without
