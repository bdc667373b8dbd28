# SPDX-License-Identifier: GPL-2.0
"""Carry out commands: each in a forked child of this process, which has their modules loaded already.

So an answer is what the command line answers, with the same checks and the same lock, and whatever a command does to
its process, or is stopped at, this one goes on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import NamedTuple, NoReturn

import msgspec

from xdpguard.cli import app
from xdpguard.closeable import opened
from xdpguard.errors import XdpguardError
from xdpguard.units import visible

AT_ONCE = 4  # commands; those that change something wait for each other anyway
PATIENCE = 30.0  # seconds for a command, and for its turn

# What commands import, but for what is large (bcc) or starts threads, which do not outlive a fork (numpy).
_LOADED = (
    "cli.root cli.rules cli.lists cli.filters cli.guard cli.default cli.status cli.explain cli.observe cli.events"
    " cli.confirm cli.listing cli.promote cli.fleet control.controller control.ruleset dataplane.build.program"
    " net.links store.database explain.address control.safety control.audit"
)
_KILLED = -1


class Failure(msgspec.Struct, frozen=True):
    """Why a request failed, and what to do about it."""

    error: str
    remedy: str = ""
    notes: list[str] = []


class Outcome(NamedTuple):
    """What a command answered: its exit code, what it printed, its notes, and why it failed."""

    code: int
    printed: bytes
    notes: list[str]
    failure: Failure | None


class Runner:
    """Carries out commands of the instance that XDPGUARD_INSTANCE names.

    Belongs to the loop's thread, the only one of the process.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        for name in _LOADED.split():
            import_module(f"xdpguard.{name}")
        gc.freeze()  # what is loaded stays shared with the children

    async def run(self, arguments: Sequence[str], given: bytes = b"") -> Outcome:
        """Run a command to its end, with ``given`` on standard input. Raise TimeoutError if it takes too long."""
        async with asyncio.timeout(PATIENCE), self._turn:
            with ExitStack() as stack:
                files = [stack.enter_context(_memory(name)) for name in ("in", "out", "err", "failure")]
                os.pwrite(files[0], given, 0)
                code = await self._child(list(arguments), files)
                _, printed, told, failure = (_content(file) for file in files)
        lines = (line.removeprefix("xdpguard: ") for line in _text(told).splitlines())
        # That it waited for its turn is no longer so.
        notes = [line.removeprefix("note: ") for line in lines if not line.startswith("waiting for another")]
        why = msgspec.json.decode(failure, type=Failure) if failure else None
        return Outcome(code, printed, notes, why)

    async def _child(self, arguments: list[str], files: list[int]) -> int:
        """Run it in a child with these files as its streams; return its exit code. It is killed if we are cancelled."""
        pid = os.fork()
        if pid == 0:
            _become(arguments, files)
        try:
            with opened(os.pidfd_open(pid)) as ending:
                await _readable(ending)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)


@contextmanager
def _memory(name: str) -> Iterator[int]:
    with opened(os.memfd_create(name)) as file:
        yield file


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def now_it_is() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, now_it_is)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _become(arguments: list[str], files: list[int]) -> NoReturn:
    """Run a command in this process, a child, and end it. Nothing of the parent's is touched or held."""
    code = 1
    try:
        gc.freeze()  # or a collection here would close descriptors of the parent's objects
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        failure = os.dup2(files[3], max(files) + 1, inheritable=False)
        for place in range(3):
            os.dup2(files[place], place)
        os.closerange(3, failure)
        os.closerange(failure + 1, os.sysconf("SC_OPEN_MAX"))

        def tell(error: XdpguardError, _details: bool) -> None:
            found = Failure(visible(str(error)), visible(error.remedy))
            os.pwrite(failure, msgspec.json.encode(found), 0)

        sys.argv = ["xdpguard", *arguments]
        code = app.run(arguments, tell)
        sys.stderr.flush()
    finally:
        os._exit(code)
