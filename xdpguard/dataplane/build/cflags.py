# SPDX-License-Identifier: GPL-2.0
"""Compile-time switches of bpf/config.h: every one, always, as a compiler flag."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xdpguard.errors import UsageError
from xdpguard.files import shown

# bcc's own headers would not pass the two that are off, nor would comparisons that a switch makes needless.
WARNINGS = ("-Wall", "-Werror", "-Wno-unused-function", "-Wno-macro-redefined")


@dataclass(frozen=True)
class Switches:
    """Values for bpf/config.h. Booleans become 0 or 1."""

    pins: str
    link_pins: str
    max_cpus: int
    programs: str = "programs"  # name of the pin, in ``link_pins``, of the map of programs
    observe: bool = False
    loopback: bool = False
    frags: bool = False
    check_flags: bool = True
    check_source: bool = True
    max_rules: int = 131_072
    sources: int = 65_536
    tuples: int = 65_536
    new_sources_per_second: int = 10_000
    new_tuples_per_second: int = 10_000
    raw_cookies: bool = True
    veth: bool = False
    load_bytes: bool = True
    fake_clock: bool = False
    probe: bool = False
    btf: Mapping[str, int] = field(default_factory=dict)  # places in the kernel's structs, by switch: see btf.py


def cflags(switches: Switches, source: Path) -> list[str]:
    """Return the compiler's arguments: our own headers first, then the switches."""
    numbers = {
        "OBSERVE": int(switches.observe),
        "LOOPBACK": int(switches.loopback),
        "FRAGS": int(switches.frags),
        "CHECK_FLAGS": int(switches.check_flags),
        "CHECK_SOURCE": int(switches.check_source),
        "MAX_RULES": switches.max_rules,
        "MAX_CPUS": switches.max_cpus,
        "SOURCES": switches.sources,
        "TUPLES": switches.tuples,
        "NEW_SOURCES_PER_SECOND": switches.new_sources_per_second,
        "NEW_TUPLES_PER_SECOND": switches.new_tuples_per_second,
        # Without the places of the kernel's fields there is no looking at a veth's peer.
        "VETH": int(switches.veth and "DEV_PRIVATE" in switches.btf),
        "RAW_COOKIES": int(switches.raw_cookies),
        "LOAD_BYTES": int(switches.load_bytes),
        "FAKE_CLOCK": int(switches.fake_clock),
        "PROBE": int(switches.probe),
        "BTF": int(bool(switches.btf)),
        **switches.btf,
    }
    return [
        *header_flags(source),
        *WARNINGS,
        *(f"-DXG_{name}={int(value)}" for name, value in numbers.items()),
        string_flag("PINS", switches.pins),
        string_flag("LINK_PINS", switches.link_pins),
        string_flag("PROGRAMS", switches.programs),
    ]


def string_flag(name: str, path: str | Path) -> str:
    """Return the flag that makes XG_NAME a string of C. Raise UsageError for what would end that string.

    All other switches are numbers. An instance's name and the encoded names of interfaces hold no such character, but
    where the BPF file system is mounted, the environment says.
    """
    text = str(path)
    if not text.isprintable() or '"' in text or "\\" in text:
        remedy = 'name one without ", \\ and control characters in XDPGUARD_BPFFS'
        raise UsageError(f"{shown(path)}: not a folder for maps", remedy)
    return f'-DXG_{name}="{text}"'


def header_flags(source: Path) -> list[str]:
    """Return where the compiler finds <linux/*.h>: our few, then those of the C library's package."""
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders = [str(source / "uapi" / "system"), "/usr/include"]
    if multiarch:
        folders.append(f"/usr/include/{multiarch}")
    return [f"-isystem{folder}" for folder in folders]
