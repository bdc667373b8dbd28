# SPDX-License-Identifier: GPL-2.0
"""Instructions that the kernel's verifier processes, of the million it allows, for every program of the data plane, as
built by a given compiler.

bcc compiles with the LLVM it was built with, so the results of another distribution's bcc are determined with that
distribution's clang: it compiles the text that bcc passes to its own compiler, with bcc's own headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from xdpguard.dataplane.build import compiler
from xdpguard.dataplane.build.bundle import bundle
from xdpguard.dataplane.build.cflags import Switches, cflags
from xdpguard.dataplane.build.outer import make_holders
from xdpguard.dataplane.sys import btf, kernel
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.sys.source import source_folder

BUILTIN = "bcc"  # the compiler inside bcc: LLVM 14 on Debian 12
CLANGS = ("clang-16", "clang-19")
MOST = {BUILTIN: 400_000, "clang-16": 700_000, "clang-19": 700_000}  # instructions, of the verifier's million
TOO_LARGE = 1_000_000  # reported for a program that the verifier gives up on

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "veth": {"veth": True},
    "observe": {"observe": True},
    "frags": {"frags": True},
    "observe-frags": {"observe": True, "frags": True},
    "veth-frags": {"veth": True, "frags": True},
    "loopback": {"loopback": True},
    "unchecked": {"check_flags": False, "check_source": False},
    "no-btf": {"btf": {}},
    "no-raw-cookies": {"raw_cookies": False},
    "no-load-bytes": {"load_bytes": False},
    "linux-5-15": {"raw_cookies": False, "load_bytes": False},
    "linux-5-15-no-btf": {"raw_cookies": False, "load_bytes": False, "btf": {}},
    "probe": {"probe": True},
    "fake-clock": {"fake_clock": True},
}

_SHOW_REWRITTEN = 4  # DEBUG_PREPROCESSOR of bcc's src/cc/bpf_module.h
# bcc's headers exist only in its library, each as a string: name -> a line that only it has.
_HEADERS = {
    "bpf.h": b"#ifndef _UAPI__LINUX_BPF_H__",
    "helpers.h": b"#ifndef __BPF_HELPERS_H",
    "bpf_workaround.h": b"#ifndef __HAVE_BUILTIN_BSWAP16__",
    "footer.h": b"#ifndef BPF_LICENSE",
}
_MAP = re.compile(r'section\("maps/[^)]*\)+\s*struct \w+ (\w+) =')
_FUNCTIONS = ".bpf.fn."  # bcc puts each program into a section of this name and its own
_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_MAP, _PSEUDO_MAP_FD = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW, and the source register that marks a map
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr


class Missing(Exception):
    """A compiler is not installed."""


class Rewritten:
    """One variant of the data plane, compiled by bcc, with its maps in the kernel. Created by `rewritten`."""

    def __init__(self, switches: Switches, module: Any, library: Any, text: str) -> None:
        self.switches = switches
        self._module, self._library, self._text = module, library, text

    def verified(self, name: str) -> dict[str, int]:
        """Return verified instructions by program, as that compiler builds it; TOO_LARGE if refused as such.

        Raises Missing if it is not installed, OSError if the kernel refuses a program for another reason.
        """
        codes = self._own() if name == BUILTIN else self._foreign(name)
        return {program: load(program, code, self.switches.frags) for program, code in codes.items()}

    def _own(self) -> dict[str, bytes]:
        found = {}
        for number in range(self._library.bpf_num_functions(self._module.module)):
            program = self._library.bpf_function_name(self._module.module, number)
            found[program.decode()] = bytes(self._module.dump_func(program))
        return found

    def _foreign(self, name: str) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="xdpguard-clang-") as folder:
            place = Path(folder)
            _write_headers(Path(os.path.realpath(_library_path())), place / "bcc")
            expanded = _run([name, *self._flags(place), "-E", "-x", "c", "-"], self._text)
            _run([name, *_MAKING, "-x", "cpp-output", "-c", "-o", str(place / "made.o"), "-"], expanded)
            programs = _programs((place / "made.o").read_bytes())
        maps = _MAP.findall(expanded)
        descriptors = [self._library.bpf_table_fd(self._module.module, it.encode()) for it in maps]
        return {program: _with_maps(code, descriptors) for program, code in programs.items()}

    def _flags(self, place: Path) -> list[str]:
        """As bcc's own (src/cc/frontends/clang/loader.cc), with its headers in ``place``."""
        source = source_folder()
        kernel_headers = source / "uapi" / "kernel" / "include"
        included = (kernel_headers / "linux" / "kconfig.h", *(place / "bcc" / it for it in list(_HEADERS)[:3]))
        return [
            *_MAKING,
            f"-D__{platform.machine()}__",
            "-D__KERNEL__",
            "-D__BPF_TRACING__",
            '-DKBUILD_MODNAME="bcc"',
            *(word for path in included for word in ("-include", str(path))),
            f"-isystem{place}",
            *cflags(self.switches, source),
            f"-I{kernel_headers}",
        ]


# -mcpu=v1: what bcc asks its compiler for. What bcc writes in place of a map's method hands a pointer to a number.
_MAKING = ("-target", "bpf", "-mcpu=v1", "-O2", "-w", "-Wno-int-conversion")


@contextmanager
def rewritten(variant: str) -> Iterator[Rewritten]:
    """Build a variant with maps of its own."""
    ensure_bpffs(Path("/sys/fs/bpf"))
    pins = Pins(Path("/sys/fs/bpf"), f"verified-{os.getpid()}-{variant}")
    try:
        pins.prepare("bench", "")
        base = Switches(
            pins=str(pins.folder),
            link_pins=str(pins.link_folder("bench", "")),
            max_cpus=kernel.present_cpus(),
            max_rules=4096,
            sources=4096,
            tuples=4096,
            btf=btf.switches(),
        )
        chosen = replace(base, **VARIANTS[variant])
        bcc = compiler.import_bcc()
        make_holders(pins.folder)
        with compiler.captured() as output, _silent():
            flags = cflags(chosen, source_folder())
            module = bcc.BPF(text=bundle().encode(), cflags=flags, debug=_SHOW_REWRITTEN)
            text = output().partition("\n")[2]  # the first line is the compiler's command
        try:
            yield Rewritten(chosen, module, bcc.lib, text)
        finally:
            module.cleanup()
    finally:
        pins.remove_all()


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress what bcc prints on standard output when asked to show what it compiles."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def load(program: str, code: bytes, frags: bool = False) -> int:
    """Return the instructions the verifier processes; TOO_LARGE if it gives up. Raise OSError for other refusals."""
    try:
        descriptor = kernel.load_xdp(code, program, kernel.PROG_FLAG_XDP_HAS_FRAGS if frags else 0)
    except OSError as error:
        if error.errno == errno.E2BIG:
            return TOO_LARGE
        raise
    try:
        return kernel.program_info(descriptor).verified
    finally:
        os.close(descriptor)


def _library_path() -> str:
    """Return the path of the loaded bcc library."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith("libbcc.so"):
            return path
    raise Missing("libbcc.so is not loaded")


def _write_headers(library: Path, folder: Path) -> None:
    folder.mkdir()
    raw = library.read_bytes()
    for name, line in _HEADERS.items():
        at = raw.index(line)
        text = raw[raw.rindex(b"\0", 0, at) + 1 : raw.index(b"\0", at)]
        (folder / name).write_bytes(text[text.index(b"\n") :])  # what precedes it is not part of the string


def _run(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed: sudo netns-lab/setup installs it") from error
    if done.returncode:
        raise RuntimeError(f"{command[0]} refuses the data plane:\n{done.stderr[-4000:]}")
    return done.stdout


def _programs(made: bytes) -> dict[str, bytes]:
    """Return the programs in an object file, 64-bit ELF in this machine's byte order, by name."""
    headers_at = struct.unpack_from("<Q", made, 40)[0]
    count, names = struct.unpack_from("<2H", made, 60)
    sections = [_SECTION.unpack_from(made, headers_at + _SECTION.size * it) for it in range(count)]
    found = {}
    for section in sections:
        at = sections[names][4] + section[0]
        name = made[at : made.index(b"\0", at)].decode()
        if name.startswith(_FUNCTIONS):
            found[name.removeprefix(_FUNCTIONS)] = made[section[4] : section[4] + section[5]]
    return found


def _with_maps(code: bytes, descriptors: list[int]) -> bytes:
    """Replace bcc's references to maps by descriptors: -1 for the first, -2 for the next."""
    found = bytearray(code)
    at = 0
    while at < len(found):
        operation, registers, offset, value = _INSTRUCTION.unpack_from(found, at)
        if operation == _LOAD_MAP:
            if registers >> 4 == _PSEUDO_MAP_FD:
                _INSTRUCTION.pack_into(found, at, operation, registers, offset, descriptors[-value - 1])
            at += _INSTRUCTION.size
        at += _INSTRUCTION.size
    return bytes(found)


class Figure(NamedTuple):
    """A program's cost in the verifier."""

    program: str
    variant: str
    compiler: str
    instructions: int

    @property
    def held(self) -> bool:
        """Whether it is within the limit for that compiler's programs."""
        return self.instructions <= MOST[self.compiler]


def figures(variant: str, compilers: Iterable[str] = (BUILTIN, *CLANGS)) -> list[Figure]:
    """Yield every program of a variant, as built by each compiler."""
    with rewritten(variant) as made:
        return [
            Figure(program, variant, name, count)
            for name in compilers
            for program, count in made.verified(name).items()
        ]
