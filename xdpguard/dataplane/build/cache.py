# SPDX-License-Identifier: GPL-2.0
"""Compiled programs, kept: the same source with the same switches for the same kernel is not compiled again.

What is kept are the instructions and what the maps look like. Loading one makes or opens the maps, as bcc would, and
puts their descriptors into the instructions (BPF_PSEUDO_MAP_FD). The verifier looks at it as at any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import struct
from collections.abc import Collection, Iterable, Mapping
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import Switches, cflags
from xdpguard.dataplane.build.loading import load_programs
from xdpguard.dataplane.build.outer import make_holders
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import PROGRAMS, PROGRAMS_MAP
from xdpguard.dataplane.sys.pins import Pins, wrong_layout
from xdpguard.dataplane.sys.source import source_folder
from xdpguard.errors import MissingError
from xdpguard.owned import check_own, make_own, open_own

if TYPE_CHECKING:
    from xdpguard.dataplane.build.compiler import Compiled

_KEPT = 32  # programs; one is some 60 kB
_LOAD_MAP = 0x18  # BPF_LD | BPF_IMM | BPF_DW
_PSEUDO_MAP_FD = 1
_PLACES = ("-DXG_PINS=", "-DXG_LINK_PINS=", "-DXG_PROGRAMS=")
_INSTRUCTION = struct.Struct("<BBhi")
_OUTER = (kernel.MAP_ARRAY_OF_MAPS,)
_FORMAT = 3


class Table(NamedTuple):
    """A map as the source declares it. ``pin`` is its path below the instance's folder, empty: none; ``link``: below
    the interface's own folder; ``inner``: name of the map that is the pattern of those it holds.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    pin: str
    link: bool
    inner: str

    def declared(self) -> kernel.MapInfo:
        """Return it as the kernel describes a map."""
        sizes = (self.key_size, self.value_size, self.max_entries, self.flags)
        return kernel.MapInfo(self.type, 0, *sizes, self.name)


class Cache:
    """Compiled programs in a folder. None of its files is needed; one that is damaged is not used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(
        self, switches: Switches, pins: Pins, link: tuple[str, str], maps: Collection[str] = ()
    ) -> tuple[int, dict[str, int]] | None:
        """Make or open the maps of the interface ``link`` (name, namespace), and load the program.

        Returns its descriptor, and those of the ``maps`` named, all owned by the caller; None when it has not been
        kept, or the kernel does not take it any more. XdpguardError when a pinned map has another layout.
        """
        found = self._read(switches)
        if found is None:
            return None
        codes, kept = found
        # Each build has a map of programs of its own.
        tables = [it._replace(pin=it.pin and switches.programs) if it.name == PROGRAMS_MAP else it for it in kept]
        descriptors: dict[str, int] = {}
        before = pins.names()
        try:
            make_holders(pins.folder)
            for table in tables:
                descriptors[table.name] = _opened(table, pins, link, descriptors)
            patched = {name: _patched(code, descriptors) for name, code in codes.items()}
            program = load_programs(patched, descriptors[PROGRAMS_MAP], switches.frags)
            return program, {name: os.dup(descriptors[name]) for name in maps}
        except OSError:
            pins.remove(pins.names() - before)
            return None
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def keep(self, switches: Switches, pins: Pins, link: tuple[str, str], compiled: Compiled) -> None:
        """Keep the programs that were compiled. Says nothing when it cannot: it is done anew then."""
        declared = compiled.tables()
        descriptors = {name: compiled.map_fd(name) for name in declared}
        codes = {name: compiled.code(name) for name in PROGRAMS}
        tables = list(_described(declared, descriptors, pins, link))
        names = {number: name for name, number in descriptors.items()}
        order = [table.name for table in tables]
        sizes = {name: len(code) for name, code in codes.items()}
        record = {"format": _FORMAT, "tables": [table._asdict() for table in tables], "codes": sizes}
        head = json.dumps(record).encode()
        named = b"".join(_patched(code, {}, names, order) for code in codes.values())
        data = len(head).to_bytes(4, "little") + head + named
        path = self._path(switches)
        with contextlib.suppress(OSError, MissingError):
            make_own(self._folder)
            draft = path.with_suffix(f".{os.getpid()}")
            with os.fdopen(open_own(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
                stream.write(hashlib.sha256(data).digest() + data)
            draft.rename(path)
            kept = sorted(self._folder.glob("*.bpf"), key=lambda it: it.stat().st_mtime)
            for old in kept[:-_KEPT]:
                old.unlink(missing_ok=True)

    def _read(self, switches: Switches) -> tuple[dict[str, bytes], list[Table]] | None:
        # What root loads from there must be what root has put there.
        check_own(self._folder)
        path = self._path(switches)
        if not os.path.lexists(path):
            return None
        with os.fdopen(open_own(path, os.O_RDONLY), "rb") as stream:
            raw = stream.read()
        digest, data = raw[:32], raw[32:]
        if hashlib.sha256(data).digest() != digest:
            return None
        size = int.from_bytes(data[:4], "little")
        record = json.loads(data[4 : 4 + size])
        if record["format"] != _FORMAT:
            return None
        codes, at = {}, 4 + size
        for name, length in record["codes"].items():
            codes[name] = data[at : at + length]
            at += length
        return codes, [Table(**table) for table in record["tables"]]

    def _path(self, switches: Switches) -> Path:
        """By everything that the instructions depend on. Where maps are pinned is none of it."""
        source = source_folder()
        flags = [flag for flag in cflags(switches, source) if not flag.startswith(_PLACES)]
        parts = [bundle(source), *flags, platform.release(), platform.machine(), _compiler()]
        return self._folder / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.bpf"


def _compiler() -> str:
    """Return which bcc would compile it: found without loading it, which takes as long as all the rest."""
    found = util.find_spec("bcc")
    if found is None or found.origin is None:
        return ""
    return f"{found.origin}:{Path(found.origin).stat().st_mtime_ns}"


def _described(
    declared: Mapping[str, kernel.MapInfo], descriptors: Mapping[str, int], pins: Pins, link: tuple[str, str]
) -> Iterable[Table]:
    """Return tables in an order in which they can be made: the pattern of an inner map before the one that holds it."""
    folder = pins.link_folder(*link)
    pinned = {kernel.pin_id(path): (path.name, True) for path in folder.iterdir()}
    pinned |= {kernel.pin_id(path): (path.name, False) for path in pins.folder.iterdir() if path.is_file()}
    inner = next((name for name, info in declared.items() if info.flags & kernel.MAP_INNER), "")
    for name in sorted(declared, key=lambda name: declared[name].type in _OUTER):
        info = declared[name]
        pin, own = pinned.get(kernel.map_info(descriptors[name]).id, ("", False))
        yield Table(
            name,
            info.type,
            info.key_size,
            info.value_size,
            info.max_entries,
            info.flags,
            pin,
            own,
            inner if info.type in _OUTER else "",
        )


def _opened(table: Table, pins: Pins, link: tuple[str, str], made: Mapping[str, int]) -> int:
    path = (pins.link_folder(*link) if table.link else pins.folder) / table.pin
    if table.pin and path.exists():
        descriptor = kernel.open_pin(str(path))
        if not kernel.map_info(descriptor).like(table.declared()):
            os.close(descriptor)
            raise wrong_layout(path)
        return descriptor
    descriptor = kernel.create_map(
        table.type,
        table.key_size,
        table.value_size,
        table.max_entries,
        table.flags,
        table.name,
        made[table.inner] if table.inner else 0,
    )
    if table.pin:
        kernel.pin(str(path), descriptor)
    return descriptor


def _patched(
    code: bytes, descriptors: Mapping[str, int], names: Mapping[int, str] | None = None, order: Iterable[str] = ()
) -> bytes:
    """Return the instructions with other numbers for their maps: descriptors for places in the list of tables, or, with
    ``names``, places for descriptors.
    """
    found = bytearray(code)
    places = {name: place for place, name in enumerate(order)}
    numbers = list(descriptors.values())
    at = 0
    while at < len(found):
        operation, registers, offset, value = _INSTRUCTION.unpack_from(found, at)
        if operation == _LOAD_MAP:
            if registers >> 4 == _PSEUDO_MAP_FD:
                new = numbers[value] if names is None else places[names[value]]
                _INSTRUCTION.pack_into(found, at, operation, registers, offset, new)
            at += _INSTRUCTION.size
        at += _INSTRUCTION.size
    return bytes(found)
