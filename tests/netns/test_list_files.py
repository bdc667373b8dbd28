# SPDX-License-Identifier: GPL-2.0
"""Lists and their files: what is refused, lists of the configuration, reloading, the audit and what it repairs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.lists import answered, clear, looked, maps, shown, without
from support.service import Service
from support.sshd import Sshd
from support.traffic import Echo, client_address
from topology import INTERFACE, OUTSIDE4, OUTSIDE6, SERVER4, SERVER6, Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables import settings
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.net.netns import entered

EVERYBODY = without()
HELD = "".join(f"{client_address(4, number)}\n{client_address(6, number)}\n" for number in range(4))


@pytest.fixture(scope="module")
def _instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    made = Command(tmp_path_factory.mktemp("files") / "state")
    yield made
    made.clean()


@pytest.fixture
def _holding(_instance: Command, echo: Echo, lab: Lab) -> Command:
    """An instance that is attached, the same for all tests, with one list in force: clients 0 to 3."""
    del echo
    if not _instance.pins.exists():
        assert answered(lab, 4) == EVERYBODY, "positive control: with no list everybody passes"
        _instance.ok("attach", INTERFACE, "--netns", lab.server)
        _instance.ok("lists", "load", "held", "-", stdin=HELD)
    assert answered(lab, 4) == without(0, 1, 2, 3)
    return _instance


@pytest.fixture
def attached(_holding: Command) -> Iterator[Command]:
    """Likewise; what a test loads or blocks beside that is taken away."""
    yield _holding
    clear(_holding, "held")


@pytest.fixture
def unchanged(_holding: Command, lab: Lab) -> Iterator[Command]:
    """Likewise; what the test does must change nothing, in the store or in the kernel."""

    before = looked(_holding)
    assert [(name, held == its.entries) for name, (its, held) in before.items()] == [("held", True)]
    yield _holding
    # The clients that were asked in between have made hits.
    after = {name: (its._replace(packets=0, bytes=0), held) for name, (its, held) in looked(_holding).items()}
    assert after == {name: (its._replace(packets=0, bytes=0), held) for name, (its, held) in before.items()}
    assert answered(lab, 4) == without(0, 1, 2, 3)


@pytest.fixture
def alone(_instance: Command, command: Command, echo: Echo, lab: Lab) -> Command:
    """An instance of the test's own; nothing is attached."""
    del echo
    if _instance.pins.exists():
        _instance.ok("detach", "--all")
    assert answered(lab, 4) == EVERYBODY
    return command


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration file and tells its path."""
    path = tmp_path / "guard.toml"

    def write(text: str) -> str:
        path.write_text(text)
        return str(path)

    return write


def attach(command: Command, lab: Lab, *arguments: str) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server, *arguments)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (SERVER4, f"the list x holds {SERVER4}, which is an address of this host"),
        ("198.18.0.0/31", "the list x holds 198.18.0.0/31, and 198.18.0.1 in it is an address of this host"),
        (SERVER6, f"the list x holds {SERVER6}, which is an address of this host"),
        (OUTSIDE4, f"the list x holds {OUTSIDE4}, which is this host's gateway"),
        (OUTSIDE6, f"the list x holds {OUTSIDE6}, which is this host's gateway"),
        ("192.0.2.0/24", "the list x holds 192.0.2.0/24, and 192.0.2.9 in it is the other end of an SSH session"),
        (client_address(4, 5), f"the list x holds {client_address(4, 5)}, which is the other end of an SSH session"),
        ("128.0.0.0/1\n0.0.0.0/1", "the list x contains every IPv4 address"),
        ("::/0", "the list x contains every IPv6 address"),
    ],
    ids=lambda value: value.replace("\n", ",") if " " not in value else "",
)
def test_whom_a_list_must_not_cut_off(unchanged: Command, lab: Lab, entry: str, says: str) -> None:
    """The namespace that is guarded counts, also its SSH sessions, and the session of this command."""
    text = f"203.0.113.1\n2001:db8::1\n{entry}\n"
    arguments = ("lists", "load", "x", "-")
    session = {"SSH_CONNECTION": f"192.0.2.9 54321 {SERVER4} 2222"}
    with entered(lab.server):
        listener = socket.create_server((SERVER4, 22))
    with entered(lab.outside):
        client = socket.create_connection((SERVER4, 22), 10, (client_address(4, 5), 0))
    with listener, client, Sshd() as sshd:
        sshd.logged_in(listener.accept()[0])
        line = unchanged.refused(1, *arguments, stdin=text, **session)
    assert says in line
    assert "nothing was changed; " in line
    assert "--force" in line


def test_forcing_a_list_that_cuts_off(attached: Command, lab: Lab) -> None:
    load = ("lists", "load", "x", "-")
    text = f"{OUTSIDE6}\n{client_address(4, 5)}\n"
    attached.ok(*load, "--force", stdin=text)
    assert shown(attached, "x")["held"] == 2
    assert answered(lab, 4) == without(0, 1, 2, 3, 5)
    assert "gateway" in attached.refused(1, *load, stdin=text)
    attached.ok("allow", OUTSIDE6, "--for", "1h")
    assert "gateway" in attached.refused(1, *load, stdin=text), "an allowance that ends is none for good"
    attached.ok("allow", OUTSIDE6)
    attached.ok(*load, stdin=text)


def test_a_file_that_shrank(attached: Command, lab: Lab) -> None:
    load = ("lists", "load", "x", "-")

    def text(count: int) -> str:
        return "".join(f"203.0.113.{2 * number}\n" for number in range(count - 1)) + f"{client_address(4, 7)}\n"

    attached.ok(*load, stdin=text(21))
    before = shown(attached, "x")
    line = attached.refused(1, *load, stdin=text(10))
    assert "the list x had 21 entries, and now has 10: fewer than half; nothing was changed" in line
    assert "--force" in line
    assert shown(attached, "x") == before
    attached.ok(*load, stdin=text(11))
    assert (shown(attached, "x")["given"], shown(attached, "x")["held"]) == (11, 11)
    attached.ok(*load, "--force", stdin=text(1))
    assert (shown(attached, "x")["given"], shown(attached, "x")["held"]) == (1, 1)
    assert answered(lab, 4) == without(0, 1, 2, 3, 7)


FAULTY = f"{client_address(4, 0)}\noops\n# a comment\n300.1.1.1\n{client_address(4, 1)}\n{client_address(4, 9)}\n"


def test_wrong_lines_are_named_and_skipped_or_refused(attached: Command, lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(FAULTY)
    before = attached.json("lists", "show", "held")
    for name in ("held", "new"):
        line = attached.refused(2, "lists", "load", name, str(path), "--strict")
        assert f"{path}:2: 'oops': not an address" in line
        assert "(and 1 more); nothing was changed" in line
    assert attached.json("lists", "show", "held") == before
    assert list(looked(attached)) == ["held"]
    result = attached("lists", "load", "new", str(path))
    assert result.code == 0
    assert f"{path}:2: 'oops'" in result.err
    assert f"{path}:4: '300.1.1.1'" in result.err
    assert "2 lines skipped" in result.out
    assert shown(attached, "new")["skipped"] == 2
    assert answered(lab, 4) == without(0, 1, 2, 3, 9)


FILES: dict[str, tuple[bytes, str]] = {
    "binary": (b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20, "not text"),
    "damaged gzip": (b"\x1f\x8b\x08\x00" + b"x" * 100, "gzip data is corrupt"),
    "prose": (b"<html>\n<body>404 not found</body>\n</html>\n", "no entries"),
}


@pytest.mark.parametrize(("data", "says"), FILES.values(), ids=FILES)
def test_files_that_are_not_lists(unchanged: Command, tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "list"
    path.write_bytes(data)
    line = unchanged.refused(2, "lists", "load", "held", str(path), "--force")
    assert f"{path}:" in line
    assert says in line


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, ["load", "x", "/nosuch/list.txt"], "/nosuch/list.txt: cannot be read: there is no such file"),
        (2, ["load", "x", "/sys"], "/sys: cannot be read: it is a directory"),
        (2, ["load", "", "-"], "not a list name: ''"),
        (2, ["load", "../x", "-"], "not a list name: '../x'"),
        (2, ["load", "x\n", "-"], "not a list name"),
        (2, ["load", "x", "-"], "standard input:1: no entries; 'oops' is not an address"),
        (1, ["drop", "nosuch"], "there is no list nosuch; nothing was changed; lists: held"),
        (1, ["drop", "held", "nosuch"], "there is no list nosuch; nothing was changed; lists: held"),
        (1, ["show", "nosuch"], "there is no list nosuch; "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(unchanged: Command, code: int, arguments: list[str], says: str) -> None:
    assert says in unchanged.refused(code, "lists", *arguments, stdin="oops\n")


def forgotten(held: ListMaps) -> None:
    """The program asks anew about every source, as it would some time later."""
    settings.renew(held._maps["settings"])


def no_index(held: ListMaps) -> None:
    assert kernel.delete(held._maps["list_index"], bytes(4))


def no_bits(name: str) -> Callable[[ListMaps], None]:
    def clear_bits(held: ListMaps) -> None:
        words = held._words(name)
        assert words.any()
        words[:] = 0

    return clear_bits


def no_flags(held: ListMaps) -> None:
    with settings.changing(held._maps["settings"]) as fields:
        fields[settings.LISTS4] = fields[settings.LISTS6] = 0


DAMAGE: dict[str, tuple[Callable[[ListMaps], None], bool, bool]] = {  # and which families still pass nobody listed
    "index": (no_index, False, False),
    "IPv4 pre-filter": (no_bits("list_nets4"), False, True),
    "IPv6 pre-filter": (no_bits("list_nets6"), True, False),
    "flags": (no_flags, False, False),
}


@pytest.mark.parametrize(("damage", "still4", "still6"), DAMAGE.values(), ids=DAMAGE)
def test_what_the_kernel_lost_is_told(
    attached: Command, lab: Lab, damage: Callable[[ListMaps], None], still4: bool, still6: bool
) -> None:
    held = without(0, 1, 2, 3)
    with maps(attached) as kernels:
        damage(kernels)
        forgotten(kernels)
    assert answered(lab, 4) == (held if still4 else EVERYBODY)
    assert answered(lab, 6) == (held if still6 else EVERYBODY)
    found = shown(attached, "held")
    assert found["held"] < found["entries"]
    audit = attached.json("status")["audit"]
    assert audit["ratio"] == found["held"] / found["entries"] < 1
    assert audit["rules"] == {"stored": 0, "held": 0}
    assert audit["lists"] == {"held": {"stored": found["entries"], "held": found["held"]}}
    missing = f"{found['held']} of {found['entries']} entries of list held"
    assert f"the kernel holds only {missing}" in attached("status").err
    attached.ok("lists", "load", "other", "-", stdin="203.0.113.1\n")
    assert looked(attached)["held"][1] == found["entries"]
    assert answered(lab, 4) == answered(lab, 6) == held


@pytest.mark.parametrize("kind", ["index", "IPv4 pre-filter"])
def test_what_the_kernel_lost_is_restored(attached: Command, lab: Lab, kind: str) -> None:
    """By the service, which says so: of a list, and of the rules."""
    attached.ok("block", client_address(4, 8), client_address(4, 9))
    held = without(0, 1, 2, 3, 8, 9)
    assert answered(lab, 4) == held
    assert attached.json("status")["audit"]["ratio"] == 1
    descriptor = kernel.open_pin(str(next(attached.pins.glob("v*/deny4"))))
    assert kernel.delete(descriptor, socket.inet_aton(client_address(4, 8)) + bytes(4))
    os.close(descriptor)
    with maps(attached) as kernels:
        forgotten(kernels)
    assert answered(lab, 4) == held | {8}
    entries, audit = looked(attached)["held"][1], attached.json("status")["audit"]
    assert entries is not None
    assert audit["rules"] == {"stored": 2, "held": 1}
    assert audit["lists"] == {"held": {"stored": entries, "held": entries}}
    assert audit["ratio"] == pytest.approx((entries + 1) / (entries + 2))
    with maps(attached) as kernels:
        DAMAGE[kind][0](kernels)
        forgotten(kernels)
    assert answered(lab, 4) == without(9)
    left = looked(attached)["held"][1]
    assert f"the kernel holds only 1 of 2 rules, {left} of {entries} entries of list held; " in attached("status").err
    with Service(attached) as service:
        assert service.says(f"the kernel held {left} of {entries} entries (list held): restored"), service.lines
        assert service.says("the kernel held 1 of 2 entries (rules): restored"), service.lines
    assert answered(lab, 4) == held
    assert answered(lab, 6) == without(0, 1, 2, 3)
    assert attached.json("status")["audit"]["ratio"] == 1


def test_a_refused_attach_leaves_the_lists(unchanged: Command, config: Callable[[str], str]) -> None:
    """Another configuration drops nothing and loads nothing when attaching with it fails."""
    path = config('[lists.a]\nfile = "one.txt"\n')
    Path(path).with_name("one.txt").write_text(f"{client_address(4, 7)}\n")
    try:
        assert "no interface" in unchanged.refused(2, "attach", "nosuch0", "--config", path)
        assert list(looked(unchanged)) == ["held"]
    finally:
        clear(unchanged, "held")


@pytest.mark.timeout(300)
def test_lists_of_the_configuration(alone: Command, lab: Lab, tmp_path: Path, config: Callable[[str], str]) -> None:
    """From the folder of the file; loaded when new or changed, dropped when taken out; those by hand stay.

    A file that cannot be loaded the first time is refused; later the entries of before stay in force.
    """
    (tmp_path / "lists").mkdir()
    one, two, three = tmp_path / "lists" / "one.txt", tmp_path / "two.txt", tmp_path / "three.txt"
    one.write_text(f"{client_address(4, 1)}\n{client_address(6, 1)}\n")
    three.write_text(f"{client_address(4, 4)}\n")
    alone.ok("lists", "load", "byhand", "-", stdin=f"{client_address(4, 3)}\n")
    first = f'[lists.one]\nfile = "lists/one.txt"\n[lists.three]\nfile = "{three}"\nstrict = true\n'
    path = config(f'{first}[lists.two]\nfile = "two.txt"\n')
    line = alone.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", path)
    assert f"{two}: cannot be read: there is no such file" in line
    assert not alone.pins.exists()
    two.write_text(f"{client_address(4, 2)}\noops\n")
    result = alone("attach", INTERFACE, "--netns", lab.server, "--config", path)
    assert result.code == 0, result
    assert f"{two}:2: 'oops'" in result.err
    assert answered(lab, 4) == without(1, 2, 3, 4)
    assert answered(lab, 6) == without(1)
    before = alone.json("lists", "show")
    assert {it["name"]: (it["source"], it["file"]) for it in before} == {
        "byhand": ("cli", None),
        "one": ("config", str(one)),
        "two": ("config", str(two)),
        "three": ("config", str(three)),
    }
    one.write_text(f"{client_address(4, 5)}\n{client_address(6, 5)}\n")
    three.write_text(f"{client_address(4, 8)}\n{client_address(4, 9)}\noops\n")
    config(first)
    result = alone("attach", INTERFACE, "--netns", lab.server)
    assert result.code == 0, result
    assert f"{three}:3: 'oops'" in result.err
    assert "the list is unchanged" in result.err
    assert answered(lab, 4) == without(3, 4, 5)
    assert answered(lab, 6) == without(5)
    loaded = {it["name"]: it["loaded"] for it in before}
    assert {name: int(its.loaded) == loaded[name] for name, (its, _) in looked(alone).items() if name != "one"} == {
        "byhand": True,
        "three": True,
    }


def test_a_wrong_configuration_is_refused(alone: Command, lab: Lab, config: Callable[[str], str]) -> None:
    path = config('\n[lists.one]\nfile = "one.txt"\nevery = "1s"\n')
    line = alone.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", path)
    assert f"{path}:4: lists.one.every: '1s' is out of range; 10s to 7d" in line
    assert not alone.pins.exists()
    assert looked(alone) == {}


def test_a_list_of_the_configuration_that_cuts_off(alone: Command, lab: Lab, config: Callable[[str], str]) -> None:
    path = config('[lists.a]\nfile = "one.txt"\n')
    Path(path).with_name("one.txt").write_text(f"{OUTSIDE4}\n")
    line = alone.refused(1, "attach", INTERFACE, "--netns", lab.server, "--config", path)
    assert f"the list a holds {OUTSIDE4}, which is this host's gateway in {lab.server}; nothing was changed" in line
    assert looked(alone) == {}


def test_a_list_loaded_before_it_can_cut_off_is_refused_when_attaching(alone: Command, lab: Lab) -> None:
    """Unless it was forced: then attaching, now and later, asks nobody."""
    alone.ok("lists", "load", "x", "-", stdin=f"{OUTSIDE6}\n")
    line = alone.refused(1, "attach", INTERFACE, "--netns", lab.server)
    assert f"the list x holds {OUTSIDE6}, which is this host's gateway" in line
    assert not alone.pins.exists()
    alone.ok("lists", "load", "x", "-", "--force", stdin=f"{OUTSIDE6}\n{client_address(4, 1)}\n")
    attach(alone, lab)
    assert answered(lab, 4) == without(1)


@pytest.mark.timeout(300)
def test_files_that_change_while_the_service_runs(
    alone: Command, lab: Lab, tmp_path: Path, config: Callable[[str], str]
) -> None:
    """A changed file is loaded; of a broken one the old entries stay, and it is told once."""
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text(f"{client_address(4, 0)}\n")
    bad.write_text(f"{client_address(4, 5)}\n")
    alone.ok("lists", "load", "x", "-", stdin=f"{OUTSIDE6}\n")
    path = config('[lists.good]\nfile = "good.txt"\nevery = "10s"\n[lists.bad]\nfile = "bad.txt"\nevery = "10s"\n')
    attach(alone, lab, "--config", path, "--force")
    assert answered(lab, 4) == without(0, 5)
    with Service(alone) as service:
        assert service.says("watching eth0"), service.lines
        good.write_text(f"{client_address(4, 1)}\n{client_address(4, 3)}\n")
        bad.write_text("oops\n")
        assert service.says("list good loaded: 2 entries, had 1"), service.lines
        assert service.says(f"a list was not loaded, what was in force stays in force: {bad}:1: "), service.lines
        assert answered(lab, 4) == without(1, 3, 5)
        good.write_text(f"{client_address(4, 2)}\n")
        assert service.says("list good loaded: 1 entry, had 2"), service.lines
        assert answered(lab, 4) == without(2, 5)
        assert service.count("a list was not loaded") == 1, service.lines
        assert service.count("list good loaded") == 2, service.lines


def test_taking_the_allowance_away_that_a_list_needs(attached: Command, lab: Lab) -> None:
    """Nor is it given an end, which would take it away later."""
    attached.ok("allow", OUTSIDE4)
    attached.ok("lists", "load", "x", "-", stdin=f"{OUTSIDE4}\n")
    for words in (["disallow", OUTSIDE4], ["allow", OUTSIDE4, "--for", "1m", "--replace"]):
        line = attached.refused(1, *words)
        assert f"{OUTSIDE4} is this host's gateway in {lab.server}, and the list x contains it" in line
    assert [it["expires"] for it in attached.json("rules", "--kind", "allow")] == [None]
    attached.ok("lists", "remove", "x")
    attached.ok("disallow", OUTSIDE4)


def test_an_allowance_of_the_configuration_counts_as_it_will_be(
    alone: Command, lab: Lab, config: Callable[[str], str]
) -> None:
    path = config(f'[rules]\nallow = ["{OUTSIDE4}"]\n[lists.a]\nfile = "one.txt"\n')
    Path(path).with_name("one.txt").write_text(f"{OUTSIDE4}\n")
    attach(alone, lab, "--config", path)
    Path(path).write_text('[lists.a]\nfile = "one.txt"\n')
    line = alone.refused(1, "attach", INTERFACE, "--netns", lab.server, "--config", path)
    assert f"the list a holds {OUTSIDE4}, which is this host's gateway" in line
    assert [it["target"] for it in alone.json("rules")] == [OUTSIDE4]


def test_a_deleted_namespace_needs_nothing(alone: Command, lab: Lab) -> None:
    name = f"{lab.name}-gone"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "a0", "type", "veth", "peer", "name", "a1"], check=True)
        alone.ok("attach", "a0", "--netns", name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    alone.ok("lists", "load", "x", "-", stdin="203.0.113.7\n")
    attach(alone, lab)
    alone.ok("lists", "load", "x", "-", stdin="203.0.113.9\n")


def test_an_empty_list_is_loaded_if_it_is_meant_so(attached: Command, lab: Lab) -> None:
    load = ("lists", "load", "x", "-")
    attached.ok(*load, stdin=f"{client_address(4, 6)}\n{client_address(6, 6)}\n")
    assert answered(lab, 4) == without(0, 1, 2, 3, 6)
    assert "--allow-empty" in attached.refused(2, *load, stdin="# none\n")
    assert answered(lab, 4) == without(0, 1, 2, 3, 6)
    attached.ok(*load, "--allow-empty", stdin="# none\n")
    assert (shown(attached, "x")["given"], shown(attached, "x")["held"]) == (0, 0)
    assert answered(lab, 4) == without(0, 1, 2, 3)
    attached.ok(*load, stdin=f"{client_address(4, 6)}\n")
    assert answered(lab, 4) == without(0, 1, 2, 3, 6)
    attached.ok(*load, "--force", stdin="null")
    assert answered(lab, 4) == without(0, 1, 2, 3)


def test_a_dry_run_shows_the_reading_and_changes_nothing(unchanged: Command) -> None:
    load = ("lists", "load", "x", "-", "--dry-run")
    text = "src,len,action\n203.0.113.0,25,deny\n198.51.100.7,32,allow\n"
    said = unchanged(*load, "--prefix-column", "len", stdin=text)
    assert said.code == 0
    assert "would load x: 1 entry, as 1 prefix, 1 left out" in said.out
    assert "addresses from column 1 (src), prefix length from column 2 (len)" in said.out
    assert "  203.0.113.0/25\n" in said.out
    assert "left out: action=allow (1)" in said.err
    line = unchanged.refused(2, *load, "--column", "nosuch", stdin=text)
    assert "no column nosuch" in line
    refused = unchanged(*load, "--json", stdin=f"{SERVER4}\n")
    assert refused.code == 1
    assert f'"first": ["{SERVER4}"]' in refused.out
    assert "address of this host" in refused.err


def test_the_configuration_says_how_a_file_is_read(
    alone: Command, lab: Lab, config: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "hits.csv"
    path.write_text(f"{client_address(4, 2)},{client_address(4, 5)}\n")
    refused = alone.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", config(_table(path, "")))
    assert "--column" in refused
    for column, client in (("2", 5), ("1", 2)):
        attach(alone, lab, "--config", config(_table(path, f'column = "{column}"\n')))
        assert answered(lab, 4) == without(client)
        alone.ok("detach", "--all")


def _table(path: Path, more: str) -> str:
    return f'[lists.x]\nfile = "{path}"\n{more}'
