# SPDX-License-Identifier: GPL-2.0
"""What the loader makes out of bpf/, and rules out of addresses: no kernel needed."""

from __future__ import annotations

import mmap
import re
import subprocess
import sys
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import Switches, cflags
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import encoded
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.dataplane.tables import prefilter
from xdpguard.dataplane.tables.entries import entry
from xdpguard.errors import UsageError
from xdpguard.instance import find
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Kind, Port, Prefix, Target, parse_prefix


def test_bundle_holds_every_file_once_with_its_line_numbers() -> None:
    text = bundle()
    root = source_folder()
    # The programs of tcp/ are bundles of their own.
    files = {path for path in root.rglob("*.h") if not {"uapi", "tcp"} & set(path.parts)} | {root / "xdpguard.c"}
    for path in files:
        name = f"bpf/{path.relative_to(root).as_posix()}"
        assert text.count(f'#line 1 "{name}"\n') == 1, name
    # The line behind each #line is that line of the file it names.
    lines = text.splitlines()
    for place, line in enumerate(lines[:-1]):
        match = re.match(r'#line (\d+) "bpf/(.+)"$', line)
        if match and not lines[place + 1].startswith("#line"):
            original = (root / match[2]).read_text(encoding="utf-8").splitlines()
            number = int(match[1]) - 1
            if number < len(original) and not original[number].startswith('#include "'):
                assert lines[place + 1] == original[number]
    assert '#include "' not in text


def test_every_file_of_tcp_is_in_one_of_its_programs() -> None:
    folder = source_folder() / "tcp"
    programs = [bundle(source_folder(), f"tcp/{path.name}") for path in folder.glob("*.c")]
    for path in folder.glob("*.h"):
        counts = {text.count(f'#line 1 "bpf/tcp/{path.name}"\n') for text in programs}
        assert 1 in counts, path
        assert counts <= {0, 1}, path


_DEFINITIONS = (
    re.compile(r"^#\s*define (\w+)", re.MULTILINE),
    re.compile(r"^(?:static|int) .*?\b(\w+)\(", re.MULTILINE),
    re.compile(r"^(?:struct|union|enum) (\w+) \{", re.MULTILINE),
)
_ENUM = re.compile(r"^enum \w* ?\{(.*?)\}", re.MULTILINE | re.DOTALL)


def defined(text: str) -> set[str]:
    """The names that a C text defines: macros, functions, structs, constants. Maps are none of them."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = {name for pattern in _DEFINITIONS for name in pattern.findall(text)}
    return found | {name for body in _ENUM.findall(text) for name in re.findall(r"^\s*(\w+)", body, re.MULTILINE)}


def test_no_name_of_the_data_plane_is_defined_twice() -> None:
    root = source_folder()
    where: dict[str, set[str]] = {}
    for path in root.rglob("*.[ch]"):
        if "uapi" not in path.parts:
            names = defined(path.read_text(encoding="utf-8"))
            for name in {*names, path.name} if path.suffix == ".h" else names:
                where.setdefault(name, set()).add(path.relative_to(root).as_posix())
    assert not {name: files for name, files in where.items() if len(files) > 1}
    assert {"xg_parse_tcp", "XG_LISTS", "xg_rule", "XG_TRIE_ALLOW4", "verifier.h"} <= where.keys()


def test_every_switch_is_given_and_every_one_given_is_known() -> None:
    text = (source_folder() / "config.h").read_text(encoding="utf-8")
    wanted = set(re.findall(r"#ifndef (XG_\w+)\n#error", text))
    flags = cflags(Switches(pins="/p", link_pins="/p/l", max_cpus=1), source_folder())
    given_ = {flag[2:].split("=")[0] for flag in flags if flag.startswith("-DXG_")}
    assert given_ == wanted


def test_reasons_are_numbered_from_zero_without_a_gap() -> None:
    assert [reason.number for reason in abi.reasons()] == list(range(len(abi.reasons())))
    assert [reason.name for reason in abi.reasons()][:13] == [
        "pass", "allow", "non_ip", "malformed", "deny", "closed_port", "bad_flags", "bad_source",
        "syn_rate", "cookie_sent", "cookie_bad", "ack_unknown", "fragment",
    ]  # fmt: skip
    lines = (source_folder() / "reasons.def").read_text(encoding="utf-8").count("\nXG_REASON(")
    assert lines == len(abi.reasons())


def rule(kind: Kind, target: Target, expires: float | None = None) -> Rule:
    return Rule(1, kind, target, "", "", 0.0, expires, 5, 0, 0)


@pytest.mark.parametrize(
    ("kind", "text", "table"),
    [
        ("block", "198.51.100.7", "deny4"),
        ("block", "198.51.100.0/24", "deny4_prefix"),
        ("block", "2001:db8::7", "deny6"),
        ("block", "2001:db8::/32", "deny6_prefix"),
        ("allow", "198.51.100.7", "allow4"),
        ("allow", "2001:db8::7", "allow6"),
    ],
)
def test_where_a_rule_goes(kind: Kind, text: str, table: str) -> None:
    target = parse_prefix(text)[0]
    where, key, value = entry(rule(kind, target), 0.0)
    assert where == table
    assert target.network in key
    assert abi.RULE.unpack(value) == (0, 5, target.length)


def test_a_rule_ends_on_the_kernels_clock() -> None:
    _, _, value = entry(rule("block", Prefix(bytes(4), 32), expires=1000.5), -990.0)
    assert abi.RULE.unpack(value)[0] == 10_500_000_000
    _, _, value = entry(rule("block", Prefix(bytes(4), 32), expires=5.0), -990.0)
    assert abi.RULE.unpack(value)[0] == 1, "an end long ago is not 'never'"
    assert entry(rule("port", Port(80, "udp")), 0.0)[:2] == ("ports", abi.PORT.pack(80, 17))


PREFIXES = st.builds(
    lambda address, length: parse_prefix(str(ip_network((address, length), strict=False)))[0],
    st.ip_addresses(v=4),
    st.integers(0, 32),
)


def bits_of(prefixes: Iterable[Prefix]) -> dict[int, bytes]:
    singles = [prefix.network for prefix in prefixes if prefix.is_address]
    ranges = [abi.PREFIX4.pack(prefix.length, prefix.network) for prefix in prefixes if not prefix.is_address]
    return prefilter.touched(singles, ranges)


def is_set(bits: mmap.mmap, address: bytes) -> bool:
    net = int.from_bytes(address[:3], "big")
    return bool(bits[net >> 3] >> (net & 7) & 1)


@given(st.lists(PREFIXES, max_size=20), st.lists(st.ip_addresses(v=4), max_size=20), st.data())
def test_prefilter_has_a_bit_for_exactly_the_touched_networks(
    prefixes: list[Prefix], others: list[object], data: st.DataObject
) -> None:
    with mmap.mmap(-1, prefilter.SIZE) as bits:
        prefilter.set_bits(bits, bits_of(prefixes))
        probes = [prefix.network for prefix in prefixes] + [address.packed for address in others]  # type: ignore[attr-defined]
        for probe in probes:
            net = Prefix(probe[:3] + b"\0", 24)
            touched = any(prefix.covers(net) or net.covers(prefix) for prefix in prefixes)
            assert is_set(bits, probe) == touched
        if not prefixes:
            return
        gone = data.draw(st.sampled_from(prefixes))
        stay = [prefix for prefix in prefixes if prefix != gone]
        if gone.length >= 16:
            prefilter.clear_bits(
                bits, bits_of([gone]), lambda net: any(prefix.covers(net) or net.covers(prefix) for prefix in stay)
            )
        else:
            prefilter.write(bits, bits_of(stay))
        with mmap.mmap(-1, prefilter.SIZE) as fresh:
            prefilter.write(fresh, bits_of(stay))
            assert bits[:] == fresh[:]


def test_names_of_pins_hold_no_dot() -> None:
    assert encoded("eth0.100") == "eth0_2e100"
    assert encoded("a_b") != encoded("a.b")
    assert encoded("wéb") == "w_c3_a9b"


LIGHT = "bcc pyroute2 rich scapy numpy"


@pytest.mark.parametrize("arguments", [["--help"], ["block", "not-an-address"], ["stats"]])
def test_light_commands_load_neither_compiler_nor_netlink(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom xdpguard.cli.app import run\n"
        f"run({arguments!r})\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        f"sys.exit(' '.join(name for name in '{LIGHT}'.split() if name in loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"XDPGUARD_STATE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.stderr.strip().splitlines()[-1:] in ([], ["xdpguard: nothing is attached; attach an interface first: "
    "xdpguard attach IFACE"]) or "not an address" in done.stderr  # fmt: skip
    assert not any(line in LIGHT.split() for line in done.stderr.split())


@pytest.mark.parametrize(
    "path", ['/x"; int evil; //', "/x\\", "/x\ny", '/x" -include /etc/passwd "', "/x\x1b", "/x\u202e", "/x\0"]
)
def test_no_path_becomes_c(path: str) -> None:
    for which in ("pins", "link_pins", "programs"):
        names = {"pins": "/p", "link_pins": "/p/l"} | {which: path}
        with pytest.raises(UsageError, match="not a folder for maps"):
            cflags(Switches(max_cpus=1, **names), source_folder())  # type: ignore[arg-type]
    flags = cflags(Switches(pins="/a b;$(c)'é%", link_pins="/p", max_cpus=1), source_folder())
    assert '-DXG_PINS="/a b;$(c)\'é%"' in flags, "one word, and one string of C"


@pytest.mark.parametrize("name", ['x"', "a/b", "..", "a b", "x;", "-\n", "é", "x" * 33, ""])
def test_no_name_leaves_its_folder(name: str) -> None:
    with pytest.raises(UsageError, match="not an instance name"):
        find(name)
    for text in (name, f"{name}@{name}", "\x1b[0m", "../../etc"):
        assert re.fullmatch(r"[A-Za-z0-9_-]*", encoded(text)), "as pins name interfaces and namespaces"
