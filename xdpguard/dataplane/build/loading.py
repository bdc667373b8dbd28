# SPDX-License-Identifier: GPL-2.0
"""Loads the programs of the data plane side by side: the verifier, which takes most of an attach, uses a core each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.names import CALLED, FUNCTION


def load_programs(codes: Mapping[str, bytes], programs_map: int, frags: bool) -> int:
    """Load the programs of `names.PROGRAMS`, instructions by name, and put those that are entered by tail calls into
    the map of programs.

    Returns a descriptor of the one that is attached, which the caller owns. LoadError when the kernel refuses one.
    """
    flags = kernel.PROG_FLAG_XDP_HAS_FRAGS if frags else 0
    with ThreadPoolExecutor(len(codes)) as pool:
        loads = {name: pool.submit(kernel.load_xdp, code, name, flags) for name, code in codes.items()}
    try:
        for name, place in CALLED.items():
            kernel.put_program(programs_map, place, _result(name, loads.pop(name)))
        return _result(FUNCTION, loads.pop(FUNCTION))
    finally:
        _close(loads)


class LoadError(OSError):
    """The kernel refuses the program ``name``."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.name = name


def _result(name: str, load: Future[int]) -> int:
    try:
        return load.result()
    except OSError as error:
        raise LoadError(name, error) from error


def _close(loads: Mapping[str, Future[int]]) -> None:
    for load in loads.values():
        if load.exception() is None:
            os.close(load.result())
