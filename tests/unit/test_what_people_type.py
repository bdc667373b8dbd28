# SPDX-License-Identifier: GPL-2.0
"""What people type: each spelling means what it says, and each wrong word gets a sentence about that word."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from xdpguard.capture.line import parse, write
from xdpguard.cli import app, explain_what, root, targets
from xdpguard.cli.commands import found_in
from xdpguard.cli.elsewhere import COMMANDS
from xdpguard.control import guard
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.lists.parse import parse_lines
from xdpguard.policy import target
from xdpguard.policy.duration import parse_duration, parse_life
from xdpguard.policy.load import Mistakes, load
from xdpguard.policy.matching import values
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import Port, parse_ports


def said(*words: str) -> str:
    """The one error of a command line that must be refused as wrong usage: its sentence and its remedy."""
    errors: list[XdpguardError] = []
    assert app.run(list(words), lambda error, _: errors.append(error)) == 2
    (error,) = errors
    assert error.remedy, error
    return f"{error}; {error.remedy}"


@pytest.mark.parametrize(
    ("word", "prefixes"),
    [
        ("1.2.3.4-1.2.3.9", "1.2.3.4/30 1.2.3.8/31"),
        ("1.2.3.4-9", "1.2.3.4/30 1.2.3.8/31"),
        ("1.2.3.4 - 1.2.3.4", "1.2.3.4"),
        ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
        ("2001:db8::-2001:db8::ffff", "2001:db8::/112"),
        ("1.2.3.0/255.255.255.0", "1.2.3.0/24"),
        ("1.2.3.4/255.255.255.0", "1.2.3.0/24"),
        ("1.2.3.*", "1.2.3.0/24"),
        ("10.*.*.*", "10.0.0.0/8"),
        ("1.2.3.4,5.6.7.8", "1.2.3.4 5.6.7.8"),
        ("1.2.3.4, 2001:db8::/32,9.9.9.8-9.9.9.9", "1.2.3.4 2001:db8::/32 9.9.9.8/31"),
    ],
)
def test_sources(word: str, prefixes: str) -> None:
    assert [str(it) for it, _ in parse_sources(word)] == prefixes.split()
    assert " ".join(map(str, parse_lines("stdin", [word.encode()]).prefixes)) == prefixes


@pytest.mark.parametrize(
    ("word", "ports"),
    [
        ("ssh", "22/tcp"),
        ("domain", "53/tcp 53/udp"),
        ("domain/udp", "53/udp"),
        ("80-82/tcp", "80/tcp 81/tcp 82/tcp"),
        ("80,443", "80/tcp 80/udp 443/tcp 443/udp"),
        ("tcp/80", "80/tcp"),
        ("tcp/80,443", "80/tcp 443/tcp"),
        ("tcp/80,udp/53", "80/tcp 53/udp"),
        ("UDP/53", "53/udp"),
    ],
)
def test_ports(word: str, ports: str, monkeypatch: pytest.MonkeyPatch) -> None:
    services = {("ssh", "tcp"): 22, ("domain", "tcp"): 53, ("domain", "udp"): 53}

    def service(name: str, protocol: str) -> int:
        if (name, protocol) not in services:
            raise OSError("service/proto not found")
        return services[name, protocol]

    monkeypatch.setattr(socket, "getservbyname", service)
    assert " ".join(map(str, parse_ports(word))) == ports


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("10min", 600),
        ("1 hour", 3600),
        ("2 days", 172_800),
        ("1 hour 5 seconds", 3605),
        ("1w2d", 777_600),
        ("permanent", None),
        ("forever", None),
    ],
)
def test_lives(text: str, seconds: int | None) -> None:
    assert parse_life(text) == seconds


@pytest.mark.parametrize("text", ["30m1h", "1h1h", "1h30", "h", "1hour30", "0h0m", "permanent"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("198.51.100.7 to 203.0.113.1:80", "tcp 198.51.100.7:40000 > 203.0.113.1:80 S"),
        ("198.51.100.7 -> 203.0.113.1:80", "tcp 198.51.100.7:40000 > 203.0.113.1:80 S"),
        ("tcp 198.51.100.7:4000 > 203.0.113.1:80", "tcp 198.51.100.7:4000 > 203.0.113.1:80 S"),
        ("udp 198.51.100.7:4000 to 203.0.113.1:53 len=9", "udp 198.51.100.7:4000 > 203.0.113.1:53 len=9"),
        ("2001:db8::7 to [2001:db8::1]:443 SA", "tcp [2001:db8::7]:40000 > [2001:db8::1]:443 SA"),
    ],
)
def test_packets(line: str, meaning: str) -> None:
    assert write(parse(line)) == meaning


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (["mode", "auto"], {"mode": "auto"}),
        (["mode", "=", "auto"], {"mode": "auto"}),
        (["mode=", "auto"], {"mode": "auto"}),
        (["mode=always", "hold", "3s", "syn_rate=10"], {"mode": "always", "hold": "3s", "syn_rate": 10}),
        (["mode", "default"], {"mode": None}),
    ],
)
def test_values_of_the_guard(words: list[str], meaning: dict[str, Any]) -> None:
    assert guard.parse(words) == meaning


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        # Addresses.
        ("block 1.2.3.256", "256 is above 255"),
        ("block 1.2.3.07", "write 7 for 07"),
        ("block 1.2.3", "write 1.2.3.0/24 for all that begin with 1.2.3"),
        ("block 1.2.3.4.5", "four numbers"),
        ("block 1.2.3.4/33", "the range is /0 to /32"),
        ("block 1.2.3.9-1.2.3.4", "runs backwards; write 1.2.3.4-1.2.3.9"),
        ("block 1.2.3.4-1.2.3.256", "256 is above 255"),
        ("block 1.2.3.4-2001:db8::1", "both ends as IPv4 or both as IPv6"),
        ("block 1.2.3.4,", "a word is empty"),
        ("block fe80::1%eth0", "leave out the zone"),
        ("block [2001:db8::1]", "write it without brackets: 2001:db8::1"),
        ("block 00:11:22:33:44:55", "that is a MAC address"),
        ("block https://example.com/list", "xdpguard lists load NAME https://example.com/list"),
        ("block @tor", "ip saddr @tor"),
        ("block 10m", "--for 10m"),
        # Ports.
        ("block 22", "--port 22"),
        ("block tcp/22", "--port tcp/22"),
        ("block 1.2.3.4:22", "filter add NAME 'ip saddr 1.2.3.4 tcp dport 22' --drop"),
        ("block 1.2.3.4 --port 22", "a rule joins no source and port"),
        ("block 1.2.3.4 --port 22", "filter add NAME 'ip saddr 1.2.3.4 tcp dport 22' --drop"),
        ("allow 1.2.3.4 --port 22", "filter add NAME 'ip saddr ADDRESS tcp dport PORT' --pass"),
        ("block --port 65536", "65536 is above 65535"),
        ("block --port 0", "0 is below 1"),
        ("block --port 90-80", "write 80-90"),
        ("block --port 1-65535", "filter add NAME 'tcp dport 1-65535' --drop"),
        ("block --port 80/sctp", "not a port"),
        ("block --port nosuchservice", "/etc/services has no such name"),
        # Times.
        ("block 1.2.3.4 --for 10", "'10' has no unit; write 10s, 10m, 10h or 10d"),
        ("block 1.2.3.4 --for 1y", "write days, such as 365d"),
        ("block 1.2.3.4 --for 10x", "'x' is not a unit"),
        # Commands and options.
        ("bloc 1.2.3.4", "did you mean 'block'"),
        ("ban 1.2.3.4", "no such command 'ban'; xdpguard block drops packets from a source"),
        ("export x.toml", "xdpguard rules --export FILE"),
        ("flush", "xdpguard unblock --all"),
        ("block --form 1h", "did you mean --for"),
        ("block 1.2.3.4 --netns web", "for every interface of the instance"),
        ("block 1.2.3.4 --instance a/b", "not an instance name: 'a/b'"),
        ("syns nosuch", "see xdpguard syns --help"),
        ("stats --watch x", "see xdpguard stats --help"),
        ("attach", "missing argument 'IFACE'; see xdpguard attach --help"),
        ("help nosuch", "there is no topic or command nosuch"),
        ("lists load x http://example.com/x", "use https"),
        ("lists load x ftp://example.com/x", "use https"),
        ("lists load x https://me@example.com/x", "without a user"),
        ("guard set colour red", "unknown key 'colour'"),
        ("guard set mode", "mode has no value"),
        ("capture", "xdpguard capture drops.pcapng"),
        ("capture a.pcap -w b.pcap", "two files to write to: a.pcap and b.pcap"),
        ("explain 1.2.3.4 --port 22,80", "ask about one at a time"),
        ("explain 1.2.3.0/24 --port 22", "not a single address"),
        ("explain --to 1.2.3.4", "xdpguard explain 198.51.100.7 --port 22"),
        ("explain 1.2.3.4,1.2.3.5", "ask about one at a time"),
        ("rules eth0", "--match eth0"),
        ("rules --export --top 3", "--export goes with --kind alone"),
        ("rules --watch 0.001", "too short"),
        ("unblock --all 1.2.3.4", "cannot be combined"),
        ("unblock --all --match=", "--match is empty"),
        ("unblock --all --origin=", "--origin is empty"),
        ("unblock --origin config", "comes back by itself"),
        # Words of other tools, and of this one in another place.
        ("block --port", "option '--port' requires an argument; see xdpguard block --help"),
        ("tcp rtt --by", "see xdpguard tcp rtt --help"),
        ("block 1.2.3.4 --duration 10m", "no such option: --duration; it is called --for here"),
        ("block 1.2.3.4 --comment x", "it is called --reason here"),
        ("block 1.2.3.4 --dry-run", "it is called --shadow here"),
        ("attach eth0 --dry-run", "it is called --observe here"),
        ("stats -w 1", "it is called --watch here"),
        ("status --format json", "it is called --output here"),
        ("filter add web tcp --rate 10/s", "it is called --limit here"),
        ("rules --origin cli", "it is called --match here"),
        ("block --file x.txt", "xdpguard block - < FILE"),
        ("--json status", "xdpguard status --json"),
        ("-V", "it is called --version here"),
        ("lists update x", "xdpguard lists load NAME FILE"),
        ("guard on", "xdpguard guard set mode=auto"),
        ("guard status", "xdpguard guard show"),
        ("default deny", "xdpguard default drop"),
        ("tcp listeners", "xdpguard tcp states --by listener"),
        ("fleet block 1.2.3.4", "xdpguard block TARGET --fleet"),
        ("config test x", "xdpguard config check FILE"),
        ("metrics", "xdpguard help metrics"),
        ("tcpdump", "xdpguard capture FILE"),
        ("status eth0", "takes no further word: eth0; it shows all interfaces; the counters of one: xdpguard stats"),
        ("events 1.2.3.4", "xdpguard events takes no further word: 1.2.3.4"),
        ("rules --top x", "'x' is not a number"),
        ("rules ls", "xdpguard rules alone"),
        ("rules block", "rules --kind block"),
        ("rules 1.2.3.4", "rules --match 1.2.3.4"),
        ("block all", "0.0.0.0/0 and ::/0"),
        ("unblock all", "xdpguard unblock --all"),
        ("promote all", "xdpguard promote --all"),
        ("block 1.2.3.4 for 10m", "--for 10m"),
        ("block tcp", "--port 53/udp"),
        ("allow 22", "allow is for sources"),
        ("guard set mode=on", "'on' is not allowed; give one of always, auto, observe, off"),
        ("guard set flood_rate=ten", "'ten' is not allowed; give a whole number, 0 "),
        ("guard set prefix4=40", "give a whole number, 8 to 32"),
        ("guard set options=perhaps", "give true or false"),
        ("explain 1.2.3.4:22", "xdpguard explain 1.2.3.4 --port 22"),
        ("help ipset", "topics that name it: "),
        ("help filtr", "did you mean filter or filters?"),
        ("filter add x src --drop", "write ip saddr or ip6 saddr"),
    ],
)
def test_wrong_words(words: str, sentence: str) -> None:
    assert sentence in said(*words.split())


@pytest.mark.parametrize("words", ["block --country CN", "block --asn 64500", "restart now", "install", "reload"])
def test_nothing_is_suggested_that_only_looks_alike(words: str) -> None:
    assert "did you mean" not in said(*words.split())


@pytest.mark.parametrize(("path", "word"), [(path, it) for path, found in COMMANDS.items() for it in found])
def test_what_is_said_of_words_of_other_tools_names_commands_that_there_are(path: str, word: str) -> None:
    """No word is a command there, each sentence begins with a command, and its first option is one of that."""
    *above, name = path.split()
    group = at(*above[1:], name) if above else ROOT
    assert word not in group.commands
    first, *rest = COMMANDS[path][word].replace(",", "").split()
    if not first.startswith("--"):
        command = at(first)
        if hasattr(command, "commands"):
            command = at(first, rest.pop(0))
        options = [it for parameter in command.params for it in (*parameter.opts, *parameter.secondary_opts)]
        assert next((it for it in rest if it.startswith("--")), "--color") in [*options, "--confirm"]


ROOT: Any = get_command(root.app)


def at(*words: str) -> Any:
    """A command by its name."""
    found = ROOT
    for word in words:
        found = found_in(found, word)
        assert found, words
    return found


def test_a_file_is_read_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.txt").write_text("1.2.3.4\n")
    monkeypatch.chdir(tmp_path)
    assert said("block", "bad.txt") == "bad.txt is a file; read its lines with: xdpguard block - < bad.txt"
    assert said("allow", "bad.txt").endswith("xdpguard allow - < bad.txt")
    assert said("block", "lo").startswith("lo is an interface")


def test_a_host_name_is_looked_up_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["198.51.100.7", "2001:db8::7", "198.51.100.7"]
    asked: list[str] = []

    def look_up(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        if name != "www.example.com":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert list(map(str, targets.prefixes(["www.example.com"]))) == ["198.51.100.7", "2001:db8::7"]
    note = capsys.readouterr().err
    assert "www.example.com is 198.51.100.7, 2001:db8::7 at the moment" in note
    assert "do not follow the name" in note
    with pytest.raises(UsageError, match="no host of that name is found: Name or service not known"):
        targets.prefixes(["nosuch.example.com"])
    del asked[:]
    for words in (["1.2.3.256"], ["localhost"], ["10.1"]):
        with pytest.raises(UsageError):
            targets.prefixes(words)
    with pytest.raises(UsageError):
        targets.prefixes(["www.example.com"], names=False)
    assert not asked, "what is no host name, or comes from a program, is not looked up"


def test_what_explain_is_asked() -> None:
    assert str(explain_what.of_words("1.2.3.4/24")) == "1.2.3.0/24"
    assert explain_what.of_words("22") == [Port(22, "tcp"), Port(22, "udp")]
    pair = explain_what.of_words("1.2.3.4 22")
    assert isinstance(pair, explain_what.Toward)
    assert (str(pair.source), str(pair.port)) == ("1.2.3.4", "22/tcp")
    assert explain_what.of_words("tcp 1.2.3.4:5 > 1.2.3.4:6 S") is None
    toward = explain_what.of_port("1.2.3.4", "53/udp", "5.6.7.8")
    assert isinstance(toward, explain_what.Toward)
    assert (str(toward.source), str(toward.port), str(toward.to)) == ("1.2.3.4", "53/udp", "5.6.7.8")


@pytest.mark.parametrize("words", ["block", "lists load", "tcp rtt", "guard set"])
def test_help_of_a_command_is_its_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["help", *words.split()]) == 0
    one = capsys.readouterr().out
    assert app.run([*words.split(), "--help"]) == 0
    assert one == capsys.readouterr().out
    assert one.startswith(f"Usage: xdpguard {words} ")


def test_help_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["help"]) == 0
    assert "Drop packets from sources, or to ports." in capsys.readouterr().out


def test_all_mistakes_of_a_configuration_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        '[guard]\nmode = "sometimes"\nwindw = "1s"\nbans = ["10x"]\n'
        '[rules]\nblock = [\n  "198.51.100.0/24",\n  "1.2.3.256",\n]\nports = ["ssh", "99999"]\n'
        '[lists.bad]\nevery = "1m"\n[attach]\ninterfaces = ["eth0", "a/b"]\n[extra]\n'
        '[[filters]]\nname = "a"\nmatch = "tcp dport x y"\naction = "drop"\n[[filters]]\nname = "b"\nmatch = "udp"\n'
    )
    with pytest.raises(Mistakes) as error:
        load(tmp_path / "x.toml")
    assert [(it.line, it.key) for it in error.value.found] == [
        (2, "guard.mode"),
        (3, "guard.windw"),
        (4, "guard.bans"),
        (8, "rules.block"),
        (10, "rules.ports"),
        (11, "lists.bad"),
        (14, "attach.interfaces"),
        (15, "extra"),
        (18, "filters.match"),
        (20, "filters.action"),
    ]
    assert len(error.value.each) == 10
    assert str(error.value).endswith("(and 9 more)")


def test_ranges_and_names_in_a_configuration(tmp_path: Path) -> None:
    from xdpguard.control.planning import config_rules

    (tmp_path / "x.toml").write_text('[rules]\nblock = ["1.2.3.4-1.2.3.9"]\nports = ["80-81/tcp"]\n')
    rules = config_rules(load(tmp_path / "x.toml"))
    assert [str(it.target) for it in rules] == ["1.2.3.4/30", "1.2.3.8/31", "80/tcp", "81/tcp"]


@pytest.mark.parametrize(
    "words", [["block", "--port", "nosuchservice"], ["filter", "add", "x", "tcp dport nosuchservice", "--drop"]]
)
def test_a_host_that_knows_no_services(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a minimal Debian: the remedy is to install their list."""
    assert "netbase" not in said(*words), "positive control"
    for where in (target, values):
        monkeypatch.setattr(where, "SERVICES", tmp_path / "none")
    assert "the package netbase" in said(*words)
