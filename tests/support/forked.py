# SPDX-License-Identifier: GPL-2.0
"""Commands without Python's start: one process has loaded all of xdpguard, and forks a process for each command.

A command started anew spends most of its time in loading modules. What is forked is a process of its own with its own
arguments, environment, folder, standard streams, CPUs and end, as the other one is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

# What the interpreter looks at when it starts, and what a library may look at when it is loaded.
_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "OPENBLAS_", "OMP_")
_NAMESPACE = Path("/proc/thread-self/ns/net")
# Loaded by commands that are not ended by themselves, and large.
_LEFT_OUT = ("xdpguard.tui", "xdpguard.metrics", "xdpguard.cli.__main__")
_FURTHER = ("rich.console", "rich.table", "rich.text")
_STREAMS = 3


class Forked:
    """The process that forks, as whoever wants commands sees it. Threads may share it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment``: what every command's has as well."""
        self._own = _at_start(environment)
        self._namespace = _NAMESPACE.stat().st_ino
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            # Its streams are pipes, as those of its commands: what Python makes of them depends on it.
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())],
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[its.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )

    def can(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with that environment, from this thread, would be the same as one started anew."""
        return _at_start(environment) == self._own and _NAMESPACE.stat().st_ino == self._namespace

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        data: bytes | None,
        timeout: float,
        fault: str = "",
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs xdpguard to its end, as subprocess.run() would; ``fault``: what happens to it, see injection.py."""
        with _Running(self._socket, arguments, environment, data is not None, fault) as running:
            try:
                code, out, err = running.communicate(data or b"", time.monotonic() + timeout)
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(list(arguments), timeout) from error
        return subprocess.CompletedProcess(["xdpguard", *arguments], code, out, err)

    def close(self) -> None:
        """Ends it."""
        self._socket.close()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class _Running:
    """One command."""

    def __init__(
        self,
        forking: socket.socket,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        given: bool,
        fault: str,
    ) -> None:
        order = {
            "fault": fault,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(Path.cwd()),
            "cpus": sorted(os.sched_getaffinity(0)),
        }
        ours, theirs = zip(*(os.pipe() if it else os.pipe()[::-1] for it in (False, True, True)), strict=True)
        self._stdin, self._stdout, self._stderr = ours
        self._answers, answers = socket.socketpair()
        paper = os.memfd_create("order")
        os.write(paper, json.dumps(order).encode())
        nothing = os.open(os.devnull, os.O_RDONLY)
        first = theirs[0] if given else nothing
        try:
            socket.send_fds(forking, [b"x"], [first, *theirs[1:], paper, answers.fileno()])
        finally:
            answers.close()
            for descriptor in (*theirs, paper, nothing):
                os.close(descriptor)
        self._pid = int.from_bytes(self._answers.recv(4), "little")

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        for descriptor in (self._stdin, self._stdout, self._stderr):
            if descriptor >= 0:
                os.close(descriptor)

    def communicate(self, data: bytes, end: float) -> tuple[int, bytes, bytes]:
        """Gives it its input; returns its exit code and what it wrote. TimeoutError, and it is killed, at ``end``."""
        got = {self._stdout: bytearray(), self._stderr: bytearray()}
        writer = threading.Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        with selectors.DefaultSelector() as waiting:
            for descriptor in got:
                waiting.register(descriptor, selectors.EVENT_READ)
            while waiting.get_map():
                found = waiting.select(max(0.0, end - time.monotonic()))
                if not found:
                    os.kill(self._pid, signal.SIGKILL)
                    raise TimeoutError
                for key, _ in found:
                    part = os.read(key.fd, 1 << 16)
                    got[key.fd] += part
                    if not part:
                        waiting.unregister(key.fd)
        self._answers.settimeout(max(0.1, end - time.monotonic()))
        code = int.from_bytes(self._answers.recv(4), "little", signed=True)
        writer.join()
        return code, bytes(got[self._stdout]), bytes(got[self._stderr])

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._stdin, "wb", buffering=0) as pipe:
            self._stdin = -1
            while data:
                data = data[pipe.write(data) or 0 :]


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}


# --- the process that forks


def _serve(forking: socket.socket) -> bool:
    """Forks commands until nobody is left who wants one. Returns True in a command's process, False at the end."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by the process's descriptor
    waiting = selectors.PollSelector()
    waiting.register(forking, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fd in running:
                pid, answers = running.pop(key.fd)
                waiting.unregister(key.fd)
                os.close(key.fd)
                _, status = os.waitpid(pid, 0)
                with answers:
                    _tell(answers, os.waitstatus_to_exitcode(status))
                continue
            message, descriptors, _, _ = socket.recv_fds(forking, 1, _STREAMS + 2)
            if not message:
                return False
            pid = os.fork()
            if pid == 0:
                forking.close()
                for descriptor, (_, answers) in running.items():
                    os.close(descriptor)
                    answers.close()
                _become(descriptors)
                return True
            for descriptor in descriptors[:-1]:
                os.close(descriptor)
            answers = socket.socket(fileno=descriptors[-1])
            _tell(answers, pid)
            watched = os.pidfd_open(pid)
            running[watched] = pid, answers
            waiting.register(watched, selectors.EVENT_READ)


def _tell(answers: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked may have gone
        answers.sendall(number.to_bytes(4, "little", signed=True))


def _become(descriptors: list[int]) -> None:
    """Makes this process a command that has just been started."""
    with os.fdopen(descriptors[_STREAMS], "rb") as paper:
        paper.seek(0)
        order = json.loads(paper.read())
    for number, descriptor in enumerate(descriptors[:_STREAMS]):
        os.dup2(descriptor, number)
    for descriptor in (*descriptors[:_STREAMS], descriptors[-1]):
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    os.sched_setaffinity(0, order["cpus"])
    sys.argv[1:] = order["arguments"]
    if order["fault"]:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from support import injection

        del sys.path[0]
        injection.arm(order["fault"])


def _end() -> None:
    """Runs the command and ends as Python ends, without tidying up memory: that would copy every page of it."""
    from xdpguard.cli.app import main

    code: object = 0
    try:
        main()
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    os._exit(code if isinstance(code, int) else int(code is not None))


def _load() -> None:
    import typer

    import xdpguard
    from xdpguard.cli.commands import every
    from xdpguard.cli.root import app

    for module in pkgutil.walk_packages(xdpguard.__path__, "xdpguard."):
        if not module.name.startswith(_LEFT_OUT):
            importlib.import_module(module.name)
    for name in _FURTHER:
        importlib.import_module(name)
    # Parsers are made once, not at each start of a command.
    typer.main.get_command = functools.cache(typer.main.get_command)
    pending = [typer.main.get_command(app)]
    while pending:
        pending += [command for _, command in every(pending.pop()) if hasattr(command, "commands")]
    gc.collect()
    gc.freeze()  # or the first collection of each command would copy every page


if __name__ == "__main__":
    del sys.path[0]  # this folder, in which modules have names such as tcp
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends whoever wants commands, and this with it
    _load()
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        _end()
