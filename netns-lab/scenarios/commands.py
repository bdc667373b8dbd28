# SPDX-License-Identifier: GPL-2.0
"""Commands and what they answer: one after the other, as text and as JSON, or some that go on beside what is done."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

WAIT = 60.0  # seconds, at most, for anything but these
_COMPILING = {"attach", "doctor", "explain PACKET", "replay"}  # for which a busy machine takes its time


class Said(NamedTuple):
    """What a command answered. ``words``: those that name it in a table; ``loose``: its figures are never the same."""

    words: str
    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    loose: bool = False

    def documents(self) -> list[Any]:
        """What it printed as JSON, a document a line; empty when that is text."""
        return [json.loads(line) for line in self.lines()] if "--json" in self.arguments else []

    def lines(self) -> list[str]:
        """What it printed, by lines."""
        return self.out.splitlines()


class Ended(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


class Commands(Protocol):
    """Runs xdpguard, with an instance of its own."""

    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ended:
        """Runs a command to its end."""

    def line(self, *arguments: str) -> list[str]:
        """The command line of a process."""


class Runner:
    """Runs commands. ``text``: whether they are to answer people, too."""

    def __init__(self, commands: Commands, text: bool) -> None:
        self.commands, self.text = commands, text

    def run(self, words: str, *arguments: str, stdin: str | None = None, loose: bool = False) -> Said:
        """A command that ends by itself."""
        if words in _COMPILING:
            process = subprocess.run(
                self.commands.line(*arguments),
                env=self.commands.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return Said(words, arguments, process.returncode, process.stdout, process.stderr, loose)
        done = self.commands(*arguments, stdin=stdin)
        return Said(words, arguments, done.code, done.out, done.err, loose)

    def both(self, words: str, *arguments: str, loose: bool = False) -> Iterator[Said]:
        """As text, and as JSON."""
        if self.text:
            yield self.run(words, *arguments, loose=loose)
        yield self.run(words, *arguments, "--json", loose=loose)

    def beside(
        self, do: Callable[[str], None], commands: dict[str, list[str]], ready: str = "", end: bool = False
    ) -> Iterator[Said]:
        """Commands that go on, while something is done: once each has said that it is ``ready``, or anything on
        standard error. They end by themselves, or are ended with Ctrl-C.
        """
        with ExitStack() as stack:
            running = []
            for arguments in commands.values():
                process = subprocess.Popen(
                    self.commands.line(*arguments),
                    env=self.commands.environment, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )  # fmt: skip
                stack.callback(process.communicate)
                stack.callback(process.kill)
                running.append(process)
            first = [_first(it, ready) for it in running]
            do("".join(first[0]))
            for (words, arguments), process, said in zip(commands.items(), running, first, strict=True):
                if end:
                    process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=WAIT)
                yield Said(words, tuple(arguments), process.returncode, said[0] + out, said[1] + err, True)


def _first(process: subprocess.Popen[str], ready: str) -> tuple[str, str]:
    """What a process says first, on standard output and error, up to these words on either; up to anything on standard
    error when there are none. AssertionError when it does not come.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    found = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    watched = list(found) if ready else [process.stderr.fileno()]
    while not any(found[it] and ready.encode() in found[it] for it in watched):
        there = select.select(watched, [], [], WAIT)[0]
        assert there, f"it does not say {ready!r}: {found}"
        for it in there:
            # Not by the streams, which would keep further lines from select.
            piece = os.read(it, 65_536)
            found[it] += piece
            if not piece:
                watched.remove(it)
    out, err = (it.decode() for it in found.values())
    return out, err
