# SPDX-License-Identifier: GPL-2.0
"""The filters of a host as FlowSpec rules, and such rules as filters: order, labels, all or nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.command import Command

ADD = "gobgp global rib -a ipv4-flowspec add match"


def names(command: Command) -> list[str]:
    return [it["name"] for it in command.json("filter", "list")]


def test_all_filters_as_rules_and_what_is_said_of_the_others(command: Command) -> None:
    assert "no rule" in command("filter", "list", "--flowspec").err
    for name, match, *how in (
        ("long", "ip protocol udp udp sport 53 meta length > 512", "--drop"),
        ("friend", "ip saddr 192.0.2.0/24 udp sport 53", "--pass"),
        ("web", "ip daddr 192.0.2.1 tcp dport 80", "--limit", "8mbit/s"),
        ("again", "ip protocol udp udp sport 53 meta length >= 513", "--count"),
        ("ttl", "ip ttl 5", "--drop"),
        ("ntp", "ip protocol udp udp sport 123", "--drop", "--shadow"),
    ):
        command.ok("filter", "add", name, match, *how)
    said = command("filter", "list", "--flowspec")
    assert said.out.splitlines() == [
        "# long",
        f"{ADD} protocol ==17 source-port ==53 packet-length '>512' then discard",
        "# friend",
        f"{ADD} source 192.0.2.0/24 protocol ==17 source-port ==53 then accept",
        "# web",
        f"{ADD} destination 192.0.2.1/32 protocol ==6 destination-port ==80 then rate-limit 1000000 action terminal",
    ]
    assert "again is left out: FlowSpec has one rule for the packets of both it and long" in said.err
    assert "ttl is left out: FlowSpec cannot say ip ttl" in said.err
    assert "ntp is left out: in shadow" in said.err
    assert "FlowSpec has no burst" in said.err
    assert "routers ask friend before long" in said.err
    assert "web before" not in said.err, "no packet matches both"
    answer = command.json("filter", "list", "--flowspec", "--form", "exabgp")
    assert [it["name"] for it in answer["filters"]] == ["long", "friend", "web"]
    assert answer["filters"][1]["rules"] == [
        "route friend { match { source 192.0.2.0/24; protocol =17; source-port =53; } then { accept; } }"
    ]
    assert [it["name"] for it in answer["left_out"]] == ["again", "ttl", "ntp"]
    assert answer["swapped"] == [["long", "friend"]]
    assert len(command.json("filter", "show", "friend", "--flowspec")["rules"]) == 1
    assert "a router would drop at once" in command("filter", "show", "ntp", "--flowspec").err
    assert "--form without --flowspec" in command.refused(2, "filter", "list", "--form", "gobgp")
    assert "write gobgp or exabgp" in command.refused(2, "filter", "show", "ntp", "--flowspec", "--form", "bird")


def test_rules_stand_last_in_the_order_of_the_rfc_and_a_label_is_replaced_as_a_whole(
    command: Command, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.write_text(
        f"{ADD} protocol ==47 then discard\n{ADD} destination 192.0.2.0/24 then discard\n"
        f"{ADD} destination 192.0.2.7/32 then accept\n"
    )
    command.ok("filter", "add", "mine", "ip ttl 5", "--drop")
    command.ok("filter", "import", "--flowspec", str(rules), "--label", "bgp")
    command.ok("filter", "add", "bgpless", "ip ttl 6", "--drop")
    other = tmp_path / "other"
    other.write_text(f"{ADD} protocol ==50 then discard\n")
    command.ok("filter", "import", "--flowspec", str(other), "--label", "bgp-v6")
    assert names(command) == ["mine", "bgp.3", "bgp.2", "bgp.1", "bgpless", "bgp-v6.1"]
    assert "there is a filter bgp.3 already" in command.refused(
        1, "filter", "import", "--flowspec", str(rules), "--label", "bgp"
    )
    rules.write_text(f"{ADD} protocol ==47 then discard\n{ADD} destination 192.0.2.9/32 then accept\n")
    said = command.ok("filter", "import", "--flowspec", str(rules), "--label", "bgp", "--replace")
    assert "removed bgp.3" in said
    assert names(command) == ["mine", "bgpless", "bgp-v6.1", "bgp.2", "bgp.1"]
    for label, words in (("a b", "not a filter name"), ("a.b", "a label has no .")):
        assert words in command.refused(2, "filter", "import", "--flowspec", str(rules), "--label", label)


def test_an_end_is_a_comment(command: Command, tmp_path: Path) -> None:
    command.ok("filter", "add", "long", "udp sport 53 meta length > 512", "--drop", "--for", "1h")
    command.ok("filter", "add", "lasting", "udp sport 123", "--drop")
    comment = r"# long ends at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d; FlowSpec has no time: withdraw its rules then\n"
    text = command.ok("filter", "list", "--flowspec")
    assert len(re.findall(comment, text)) == text.count("ends at") == 1
    assert re.match(comment, command.ok("filter", "show", "long", "--flowspec"))
    assert "ends" not in command.ok("filter", "show", "lasting", "--flowspec")
    (tmp_path / "rules").write_text(text)
    command.ok("filter", "import", "--flowspec", str(tmp_path / "rules"), "--label", "again")


def test_what_exabgp_tells_its_processes_is_imported(command: Command, tmp_path: Path) -> None:
    rule = {"string": "flow source-ipv4 192.0.2.0/24 protocol =udp source-port =53"}
    update = {
        "attribute": {"extended-community": [{"value": 0x8006000000000000, "string": "rate-limit:0"}]},
        "announce": {"ipv4 flow": {"no-nexthop": [rule]}},
    }
    event = {"exabgp": "4.0.1", "type": "update", "neighbor": {"message": {"update": update}}}
    events = tmp_path / "events"
    events.write_text('{"exabgp": "4.0.1", "type": "state"}\n' + json.dumps(event) + "\n")
    command.ok("filter", "import", "--flowspec", str(events), "--shadow")
    (its,) = command.json("filter", "list")
    assert (its["match"], its["action"], its["mode"]) == ("ip saddr 192.0.2.0/24 udp sport 53", "drop", "shadow")
