# SPDX-License-Identifier: GPL-2.0
"""The kernel as the controller sees it: build a program, open its tables, tell our programs from others'.

Most commands build nothing: what only building needs is imported when something is built.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xdpguard.closeable import Closeable, opened
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.dataplane.build.cache import Cache
    from xdpguard.dataplane.build.cflags import Switches
    from xdpguard.policy.model import Policy

PROGRAM_NAME = "xdpguard"
# Octets of MTU up to which a frame is sure to fit one buffer of a page with its head and tail room (net/core/xdp.c).
_SINGLE_BUFFER_MTU = 3000
_FRAGS_SINCE = (5, 18)  # BPF_F_XDP_HAS_FRAGS
_LOAD_BYTES_SINCE = (5, 18)  # bpf_xdp_load_bytes()
_RAW_COOKIES_SINCE = (6, 0)  # bpf_tcp_raw_gen_syncookie_ipv4()
_MOST_COUNTERS = 1 << 28  # of 16 octets: 4 GiB


@dataclass(frozen=True)
class Target:
    """What a program is built for: an interface and how it shall treat it."""

    name: str
    netns: str
    mtu: int
    loopback: bool
    observe: bool
    veth: bool = False
    any_mtu: bool = False  # take frames in several buffers, whatever the MTU is now


@dataclass
class Built(Closeable):
    """A loaded program that is not attached yet. Say ``in_force`` when it is; else undo with ``discard``."""

    fd: int
    prog_id: int
    _pins: Pins
    _made: set[Path] = field(repr=False)
    _outdated: set[Path] = field(repr=False)

    def in_force(self) -> None:
        """Remove the pins of the program whose place it took."""
        self._pins.remove(self._outdated)

    def discard(self) -> None:
        """Remove the pins that building made."""
        self._pins.remove(self._made)

    def close(self) -> None:
        """Close the descriptor; a program that is attached or pinned stays."""
        os.close(self.fd)


class KernelDataplane:
    """Compiles with bcc, keeps maps under the instance's pins."""

    def __init__(self, pins: Pins, cache: Path | None = None) -> None:
        """``cache`` is the folder of programs compiled before; None: each is compiled."""
        self.pins = pins
        self._folder = cache

    def exists(self) -> bool:
        """Return whether the instance's maps are in the kernel."""
        return self.pins.exist()

    def build(self, target: Target, policy: Policy) -> Built:
        """Compile and load. Maps that are pinned are used again, after a check of their layout; others are made."""
        self.pins.prepare(target.name, target.netns)
        before = self.pins.names()
        link = (target.name, target.netns)
        outdated = self.pins.programs(*link)
        cache = self._cache()
        chosen = replace(switches(self.pins, target, policy), programs=self.pins.new_programs(*link))
        try:
            kept = cache.load(chosen, self.pins, link) if cache else None
            fd = kept[0] if kept else self._compile(chosen, link, cache)
        except BaseException:
            self.pins.remove(self.pins.names() - before)
            self.pins.tidy()
            raise
        return Built(fd, kernel.program_info(fd).id, self.pins, self.pins.names() - before, outdated)

    def _cache(self) -> Cache | None:
        from xdpguard.dataplane.build.cache import Cache

        return Cache(self._folder) if self._folder else None

    def _compile(self, chosen: Switches, link: tuple[str, str], cache: Cache | None) -> int:
        from xdpguard.dataplane.build.compiler import Compiled

        with Compiled(chosen) as compiled:
            fd = compiled.load()
            if cache:
                cache.keep(chosen, self.pins, link, compiled)
        return fd

    def tables(self) -> AbstractContextManager[Tables]:
        """Open the rule tables."""
        return Tables(self.pins)

    def shadow_tables(self) -> AbstractContextManager[ShadowTables]:
        """Open the tables of shadow rules."""
        return ShadowTables(self.pins)

    def owns(self, prog_id: int) -> bool:
        """Return whether a program uses maps that this instance has pinned, of whatever version."""
        return prog_id in self.owned([prog_id])

    def owned(self, prog_ids: Iterable[int]) -> set[int]:
        """Return which of these programs use maps that this instance has pinned."""
        uses: dict[int, set[int]] = {}
        for prog_id in prog_ids:
            with contextlib.suppress(FileNotFoundError):
                uses[prog_id] = set(self._info(prog_id).map_ids)
        found: set[int] = set()
        for pinned in self.pins.map_ids() if uses else ():
            found |= {prog_id for prog_id, maps in uses.items() if pinned in maps}
            if len(found) == len(uses):  # mostly after the first pin: looking at each costs three system calls
                break
        return found

    def name_of(self, prog_id: int) -> str:
        """Return a program's name, empty when it has gone."""
        try:
            return self._info(prog_id).name
        except FileNotFoundError:
            return ""

    def open_program(self, prog_id: int) -> int:
        """Return a descriptor of a loaded program; the caller closes it."""
        return kernel.program_by_id(prog_id)

    def _info(self, prog_id: int) -> kernel.ProgramInfo:
        with opened(kernel.program_by_id(prog_id)) as descriptor:
            return kernel.program_info(descriptor)


def _kernel_since(version: tuple[int, int]) -> bool:
    release = kernel.release()
    return release is not None and release >= version


def needs_frags(mtu: int) -> bool:
    """Return whether frames of an MTU, in bytes, may come in several buffers."""
    return mtu > _SINGLE_BUFFER_MTU


def switches(pins: Pins, target: Target, policy: Policy) -> Switches:
    """Return the compile-time switches for an interface under a policy."""
    from xdpguard.dataplane.build.cflags import Switches
    from xdpguard.dataplane.sys import btf
    from xdpguard.policy.model import RULES

    limits, sanity = policy.limits, policy.sanity
    cpus = kernel.present_cpus()
    rules = limits.rules or RULES
    if rules * (cpus + 1) > _MOST_COUNTERS:
        raise UsageError(
            f"limits.rules = {rules} is too high for the hit counters of {cpus} CPUs",
            f"at most {_MOST_COUNTERS // (cpus + 1)} here",
        )
    return Switches(
        pins=str(pins.folder),
        link_pins=str(pins.link_folder(target.name, target.netns)),
        max_cpus=cpus,
        observe=target.observe,
        loopback=target.loopback,
        # Before that, a jumbo MTU works in generic mode only, where the kernel makes one buffer of the frame.
        frags=(target.any_mtu or needs_frags(target.mtu)) and _kernel_since(_FRAGS_SINCE),
        veth=target.veth and not kernel.reads_locked(),
        raw_cookies=_kernel_since(_RAW_COOKIES_SINCE),
        load_bytes=_kernel_since(_LOAD_BYTES_SINCE),
        check_flags=sanity.bad_flags,
        check_source=sanity.bad_source,
        max_rules=rules,
        sources=limits.sources,
        tuples=limits.tuples,
        new_sources_per_second=-(-limits.new_sources_per_second // cpus),
        new_tuples_per_second=-(-limits.new_tuples_per_second // cpus),
        btf=btf.switches(),
    )
