# SPDX-License-Identifier: GPL-2.0
"""Programs that were compiled before: loaded without the compiler, and the same as compiled ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.bench import BPFFS

from xdpguard.dataplane.build import compiler
from xdpguard.dataplane.build.program import Built, KernelDataplane, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.policy.model import Limits, Policy
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import parse_prefix
from xdpguard.telemetry import counters

SMALL = Policy(limits=Limits(rules=1024, sources=1024, tuples=1024))
FRAME = bytes(
    Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    / IP(src="198.51.100.7", dst="203.0.113.1")
    / TCP(dport=80, flags="A")
).ljust(60, b"\0")


def target(name: str = "one", observe: bool = False) -> Target:
    return Target(name, "", 1500, False, observe)


@pytest.fixture
def instances() -> Iterator[Callable[[Path], KernelDataplane]]:
    """Makes instances with maps of their own, which are removed at the end."""
    ensure_bpffs(BPFFS)
    made: list[Pins] = []

    def make(cache: Path) -> KernelDataplane:
        made.append(Pins(BPFFS, f"cache-{os.getpid()}-{len(made)}"))
        return KernelDataplane(made[-1], cache)

    yield make
    for pins in made:
        pins.remove_all()


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes compiling an error from there on."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    return lambda: monkeypatch.setattr(compiler, "Compiled", refuse)


def reason_of(dataplane: KernelDataplane, built: Built, name: str = "one") -> str:
    before = counters.read(dataplane.pins, name, "").reasons
    kernel.test_run(built.fd, FRAME)
    after = counters.read(dataplane.pins, name, "").reasons
    (moved,) = (reason for reason in after if after[reason] != before[reason])
    return moved


def layouts(pins: Pins) -> dict[str, tuple[int, ...]]:
    """Key size, value size, entries and flags of every pinned map."""
    found = {}
    for path in pins.names():
        descriptor = kernel.open_pin(str(path))
        found[str(path.relative_to(pins.folder))] = tuple(kernel.map_info(descriptor)[2:6])
        os.close(descriptor)
    return found


def block(dataplane: KernelDataplane) -> None:
    rule = Rule(1, "block", parse_prefix("198.51.100.7")[0], "", "test", 0.0, None, 0, 0, 0)
    with dataplane.tables() as tables:
        tables.add([rule])


def test_a_kept_program_does_what_a_compiled_one_does(
    tmp_path: Path, instances: Callable[[Path], KernelDataplane], no_compiler: Callable[[], None]
) -> None:
    first = instances(tmp_path)
    with first.build(target(), SMALL):
        made = layouts(first.pins)
    no_compiler()
    again = instances(tmp_path)
    with again.build(target(), SMALL) as built:
        assert layouts(again.pins) == made
        assert reason_of(again, built) == "pass"
        block(again)
        assert reason_of(again, built) == "deny"
    with again.build(target("other"), SMALL) as built:
        assert reason_of(again, built, "other") == "deny", "the rules are those of the instance"
        assert counters.read(again.pins, "one", "").reasons["deny"].packets == 1, "the counters are its own"


def test_other_switches_are_another_program(
    tmp_path: Path, instances: Callable[[Path], KernelDataplane], no_compiler: Callable[[], None]
) -> None:
    dataplane = instances(tmp_path)
    with dataplane.build(target(), SMALL):
        pass
    with dataplane.build(target(observe=True), SMALL) as built:
        block(dataplane)
        assert kernel.test_run(built.fd, FRAME).verdict == 2, "XDP_PASS"
    assert len(list(tmp_path.iterdir())) == 2
    no_compiler()
    with dataplane.build(target(), SMALL) as built:
        assert kernel.test_run(built.fd, FRAME).verdict == 1, "XDP_DROP"


@pytest.mark.parametrize("harm", [b"", b"x" * 100, None])
def test_a_damaged_file_is_compiled_anew(
    tmp_path: Path, instances: Callable[[Path], KernelDataplane], harm: bytes | None
) -> None:
    dataplane = instances(tmp_path)
    with dataplane.build(target(), SMALL):
        pass
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    file.write_bytes(good[:-8] + bytes(8) if harm is None else harm)
    with dataplane.build(target(), SMALL) as built:
        assert reason_of(dataplane, built) == "pass"
    assert len(file.read_bytes()) == len(good)


def test_pins_of_another_layout_are_refused(
    tmp_path: Path, instances: Callable[[Path], KernelDataplane], no_compiler: Callable[[], None]
) -> None:
    larger = Policy(limits=Limits(rules=2048, sources=1024, tuples=1024))
    with instances(tmp_path).build(target(), larger):
        pass
    dataplane = instances(tmp_path)
    with dataplane.build(target(), SMALL):
        pass
    no_compiler()
    before = dataplane.pins.names()
    with pytest.raises(XdpguardError, match="a different layout"):
        dataplane.build(target("other"), larger)
    assert dataplane.pins.names() == before


def test_a_folder_that_cannot_be_written_only_costs_time(instances: Callable[[Path], KernelDataplane]) -> None:
    dataplane = instances(Path("/proc/nowhere"))
    with dataplane.build(target(), SMALL) as built:
        assert reason_of(dataplane, built) == "pass"
