# SPDX-License-Identifier: GPL-2.0
"""Runs parsers on mutations of valid inputs, in a child: what raises, hangs or takes too much memory is found."""

from __future__ import annotations

import functools
import gc
import mmap
import os
import pickle
import random
import resource
import signal
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import xdpguard
from support.input_mutation import Inputs

HANG = 5  # seconds of CPU time that an input may take
STUCK = 60.0  # seconds that it may wait for something; a busy machine is no fault
MEMORY = 500 << 20  # bytes beyond what the process has when it begins
_LARGEST = 1 << 20  # bytes of an input
_HEAD = struct.Struct("=QIQ")  # inputs until now, number of the target, bytes of the input
_OURS = str(Path(xdpguard.__file__).parent)


class Target(NamedTuple):
    """A parser: what it is given, and what it may raise."""

    name: str
    read: Callable[[bytes], object]
    samples: Sequence[bytes]
    raises: tuple[type[BaseException], ...]


class Finding(NamedTuple):
    """What is wrong: with which target, how, where in the source, and the input that shows it."""

    target: str
    what: str
    place: str
    data: bytes
    trace: str = ""


class Result(NamedTuple):
    """How many inputs were read, of each target, and what was found, each place once."""

    inputs: Counter[str]
    accepted: Counter[str]
    findings: list[Finding]


def run(targets: Sequence[Target], seconds: float, seed: int, begin: int = 0, hang: int = HANG) -> Result:
    """Fuzz for so long, but at least one input; each target in turn. ``begin``: the first input's number."""
    board = mmap.mmap(-1, _LARGEST + 4096)
    until = time.monotonic() + seconds
    inputs, accepted = Counter[str](), Counter[str]()
    findings: dict[tuple[str, str, str], Finding] = {}
    number, goes_on = begin, True
    while goes_on:
        board[: _HEAD.size] = _HEAD.pack(number, 0, 0)
        found, ended = _apart(board, functools.partial(_work, board, targets, until, seed, number, hang))
        part = pickle.loads(found) if found else Result(Counter(), Counter(), [])
        inputs += part.inputs
        accepted += part.accepted
        number, place, size = _HEAD.unpack_from(board)
        its = list(part.findings)
        if ended:
            data = board[_HEAD.size : _HEAD.size + size]
            what = f"takes more than {hang} s" if ended == signal.SIGPROF.name else ended
            its.append(Finding(targets[place].name, what, "", data))
        for finding in its:
            findings.setdefault(finding[:3], finding)
        number += 1
        goes_on = time.monotonic() < until
    return Result(inputs, accepted, list(findings.values()))


def _apart(board: mmap.mmap, work: Callable[[], Result]) -> tuple[bytes, str]:
    """Do work in a child; return what it pickles, and how it ended, if not by itself."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reads)
            done = pickle.dumps(work())
            with os.fdopen(writes, "wb") as pipe:
                pipe.write(done)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(9)
    os.close(writes)
    ended = _watched(board, child)
    with os.fdopen(reads, "rb") as pipe:
        return (b"" if ended else pipe.read()), ended


def _watched(board: mmap.mmap, child: int) -> str:
    """Wait for a child; kill it when its input is the same for too long. Return how it ended; empty: as it should."""
    before, since = b"", time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        now = bytes(board[:8])
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > STUCK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"waits for more than {STUCK:.0f} s"
        time.sleep(0.02)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "" if os.WEXITSTATUS(status) == 0 else f"ends the process with {os.WEXITSTATUS(status)}"


def _work(board: mmap.mmap, targets: Sequence[Target], until: float, seed: int, number: int, hang: int) -> Result:
    """In the child: read inputs until the time is over."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is at
    gc.collect()  # what is freed later could be taken again, beyond the bound
    size = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    result = Result(Counter(), Counter(), [])
    seen: set[tuple[str, str, str]] = set()
    sources = [Inputs(its.samples) for its in targets]
    goes_on = True
    while goes_on:
        place = number % len(targets)
        target = targets[place]
        data = sources[place].draw(random.Random(f"{seed} {number}"))[:_LARGEST]
        board[_HEAD.size : _HEAD.size + len(data)] = data
        board[: _HEAD.size] = _HEAD.pack(number, place, len(data))
        result.inputs[target.name] += 1
        finding = tried(target, data, hang)
        if finding is None:
            result.accepted[target.name] += 1
        elif finding.what and finding[:3] not in seen:
            seen.add(finding[:3])
            result.findings.append(finding)
        number += 1
        goes_on = time.monotonic() < until
    return result


def tried(target: Target, data: bytes, hang: int = 0) -> Finding | None:
    """Read one input: None if it is accepted; a finding without words if it is refused as it may be.

    ``hang``: CPU seconds until this process is ended; 0: it is not.
    """
    signal.setitimer(signal.ITIMER_PROF, hang)
    try:
        target.read(data)
    except target.raises:
        return Finding(target.name, "", "", data)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [it for it in frames if it.filename.startswith(_OURS)] or frames
        where = f"{Path(ours[-1].filename).relative_to(Path(_OURS).parent)}:{ours[-1].lineno}" if ours else ""
        return Finding(target.name, type(error).__name__, where, data, "".join(traceback.format_exception(error)[-6:]))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None
