# SPDX-License-Identifier: GPL-2.0
"""A struct that C and Python have otherwise does not compile, though it is as large: two of its fields are swapped."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from xdpguard.bench import flood
from xdpguard.dataplane.build import compiler, egress, tracepoints
from xdpguard.dataplane.build.assertions import LAYOUTS, MAIN, asserted
from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import Switches, cflags, header_flags
from xdpguard.dataplane.build.handshakes import Handshakes
from xdpguard.dataplane.sys.layouts.base import Layout, c_name, octets
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.tcp import changes, cwnd, resent, retrans, rtt, trace
from xdpguard.tcp.filters import Filter

_REFUSED = re.compile(r'error: .*assert.*"?struct (\w+), (\w+): Python declares it differently')
# By main file, what loads it.
LOADERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "tcp/handshakes.c": Handshakes,
    "tcp/states.c": lambda: changes.Changes(Filter()),
    "tcp/trace.c": lambda: trace.Trace(Filter()),
    "tcp/retrans.c": lambda: retrans.Retransmissions(Filter()),
    "tcp/resent.c": resent.Counter,
    "tcp/rtt.c": lambda: rtt.RoundTrips(Filter()),
    "tcp/cwnd.c": lambda: cwnd.Windows(Filter(), 1.0),
}


@pytest.fixture
def switches() -> Iterator[Switches]:
    """Of a program whose maps, if bcc makes any, go with the test."""
    pins = Pins(Path("/sys/fs/bpf"), f"xglayouts{os.getpid()}")
    try:
        pins.prepare("bench", "")
        yield Switches(pins=str(pins.folder), link_pins=str(pins.link_folder("bench", "")), max_cpus=1)
    finally:
        pins.remove_all()


def changed(layout: type[Layout]) -> Iterator[tuple[str, type[Layout]]]:
    """The layout with each two neighbours of one size swapped, or, with one field only, with a larger one; and the name
    of the first field that differs.
    """
    described = list(layout._fields_)
    for at, (one, other) in enumerate(itertools.pairwise(described)):
        if ctypes.sizeof(one[1]) == ctypes.sizeof(other[1]):
            made = [*described[:at], other, one, *described[at + 2 :]]
            yield one[0], type(layout.__name__, (Layout,), {"_fields_": tuple(made)})
    if len(described) == 1:
        name, kind = described[0][:2]
        yield name, type(layout.__name__, (Layout,), {"_fields_": ((name, octets(ctypes.sizeof(kind) + 1)),)})


def refusals(main: str, compile_it: Callable[[str], None]) -> None:
    """Every change of the structs of a program is refused by its compiler."""
    found = [(c_name(layout), name, made) for layout in LAYOUTS[main] for name, made in changed(layout)]
    assert found
    with pytest.raises(XdpguardError) as refused:
        compile_it("".join(asserted([made], {}) for _, _, made in found))
    assert set(_REFUSED.findall(refused.value.details)) >= {(struct, name) for struct, name, _ in found}


def test_swapped_fields_in_python_do_not_compile(monkeypatch: pytest.MonkeyPatch, switches: Switches) -> None:
    monkeypatch.setattr(compiler, "cflags", lambda *given: [*cflags(*given), "-ferror-limit=0"])
    refusals(MAIN, lambda more: compiler.Compiled(switches, lambda text: text + more).close())


def test_swapped_fields_of_the_program_at_egress_do_not_compile(
    monkeypatch: pytest.MonkeyPatch, switches: Switches
) -> None:
    def compile_it(more: str) -> None:
        monkeypatch.setattr(egress, "bundle", lambda folder, name: bundle(folder, name) + more)
        monkeypatch.setattr(egress, "header_flags", lambda source: [*header_flags(source), "-ferror-limit=0"])
        os.close(egress.load(Pins(Path("/sys/fs/bpf"), Path(switches.pins).parent.name)))

    refusals(egress.MAIN, compile_it)


@pytest.mark.parametrize("main", LOADERS)
def test_swapped_fields_of_a_tracepoints_program_do_not_compile(main: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_it(more: str) -> None:
        monkeypatch.setattr(tracepoints, "bundle", lambda folder, name: bundle(folder, name) + more)
        monkeypatch.setattr(tracepoints, "header_flags", lambda source: [*header_flags(source), "-ferror-limit=0"])
        with LOADERS[main]():
            pass

    refusals(main, compile_it)


def test_every_program_is_tried() -> None:
    assert LOADERS.keys() | {MAIN, egress.MAIN} == LAYOUTS.keys()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("u32 slot;", "u32 prefix_length;"),
        ("__be32 source;", "__be32 destination;"),
        ("u32 mute;", "u32 more_macs;"),
        ("u32 lists4;", "u32 lists6;"),
    ],
)
def test_swapped_fields_in_c_do_not_compile(one: str, other: str, switches: Switches) -> None:
    def edit(text: str) -> str:
        assert one in text
        assert other in text
        return text.replace(one, "\0", 1).replace(other, one, 1).replace("\0", other)

    with pytest.raises(XdpguardError, match="does not compile") as refused:
        compiler.Compiled(switches, edit).close()
    assert _REFUSED.search(refused.value.details)


def test_another_number_of_lists_does_not_compile(switches: Switches) -> None:
    with pytest.raises(XdpguardError, match="does not compile") as refused:
        compiler.Compiled(switches, lambda text: text.replace("#define XG_LISTS 1024", "#define XG_LISTS 512")).close()
    assert "XG_LISTS: Python declares it differently" in refused.value.details


def test_swapped_fields_of_the_flood_maker_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = flood.Flood("syn", "198.18.0.0/24", "198.18.0.2")
    frame, _ = flood._template(sent)
    swaps = list(changed(flood._layout(len(frame))))
    assert [name for name, _ in swaps] == ["source", "source_mask", "ip_sum", "l4_sum", "random_port"]
    for _, made in swaps:
        monkeypatch.setattr(flood, "_layout", lambda _, made=made: made)
        with pytest.raises(Exception, match="compile"):
            flood._compile(sent, frame, 1)
