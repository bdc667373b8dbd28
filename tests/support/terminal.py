# SPDX-License-Identifier: GPL-2.0
"""A terminal for a process: what it has drawn, which modes it has set, what it was before and is afterwards."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.patience import patient

_TOKEN = re.compile(r"\x1b\[([<>=?]?)([0-9;:]*)([ !$]*)([@-~])|\x1b[^\[]|([\r\n\b\a])|([^\x1b\x00-\x1f]+)")
_PARTIAL = re.compile(r"\x1b(\[[<>=?]?[0-9;:]*[ !$]*)?$")
_START = {"25": True, "7": True}  # modes that are on before anybody sets them
WAIT = 90.0


class Terminal:
    """Runs a command in a terminal of its own. Use as a context manager; the process ends with it."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int = 80, lines: int = 24
    ) -> None:
        self._master, self._slave = pty.openpty()
        self._open = [self._master, self._slave]
        self.resize(columns, lines)
        self.before: list[Any] = termios.tcgetattr(self._slave)
        self.output = ""
        self.modes: dict[str, bool] = {}
        self.keyboards = 0  # levels of the keyboard protocol that were pushed and not popped
        self._row = self._column = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._process = subprocess.Popen(
            command,
            # Its size is the terminal's: a library loaded by some other test may have set these for this process.
            env={name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def vanish(self) -> None:
        """Is gone, as a terminal whose emulator was killed; waits for the process to end by itself."""
        self._close()
        self._process.wait(patient(20.0))

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def resize(self, columns: int, lines: int) -> None:
        """Changes the size, as whoever pulls at the window does."""
        self._cells = [[" "] * columns for _ in range(lines)]
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        process = getattr(self, "_process", None)
        if process is not None:
            process.send_signal(28)  # SIGWINCH: the terminal is not its controlling one

    def forget(self) -> None:
        """Takes in what has come, and wipes the screen."""
        while self._pump(0):
            pass
        self._cells = [[" "] * len(row) for row in self._cells]

    def stopped(self) -> None:
        """Draws what comes until the process has been stopped."""
        status = Path(f"/proc/{self.pid}/status")
        end = time.monotonic() + WAIT
        while "State:\tT" not in status.read_text():
            self._pump(0.05)
            assert time.monotonic() < end, "it does not stop"

    def text(self) -> str:
        """What is to be seen."""
        return "\n".join("".join(row) for row in self._cells)

    def line(self, begin: str) -> list[str]:
        """The words of the line that begins so; none: empty."""
        return next((row.split() for row in self.text().splitlines() if row.strip().startswith(begin)), [])

    def send(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._master, keys.encode())

    def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Draws what comes until a condition holds."""
        end = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < end, f"{what or 'it'} never came:\n{self.text()}\n{self.output[-400:]!r}"
            assert self._pump(0.1) or self._process.poll() is None, f"it has ended:\n{self.output[-2000:]}"

    def sees(self, text: str) -> None:
        """Draws what comes until a text is there."""
        self.until(lambda: text in " ".join(self.text().split()), repr(text))

    def end(self, keys: str = "") -> int:
        """Presses keys and waits for the end; returns the exit code."""
        self.send(keys)
        end = time.monotonic() + WAIT
        while self._process.poll() is None:
            self._pump(0.1)
            assert time.monotonic() < end, f"it does not end:\n{self.text()}"
        while self._pump(0):
            pass
        return self._process.wait()

    def restored(self) -> None:
        """Asserts that the terminal is as it was: modes, alternate screen, cursor, keyboard, line discipline."""
        left = {mode: on for mode, on in self.modes.items() if on != _START.get(mode, False)}
        assert not left, f"modes left as they were set: {left}"
        assert "\x1b[?1049h" in self.output, "positive control: it was on the alternate screen"
        assert self.output.count("\x1b[?1049h") == self.output.count("\x1b[?1049l")
        assert self.output.count("\x1b[?25l") == self.output.count("\x1b[?25h")
        assert self.keyboards == 0
        assert termios.tcgetattr(self._slave) == self.before

    def _pump(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            new = self._decoder.decode(os.read(self._master, 65_536))
            self.output += new
            self._draw(self._rest + new)
        return True

    def _draw(self, text: str) -> None:
        partial = _PARTIAL.search(text)
        self._rest = text[partial.start() :] if partial else ""
        for token in _TOKEN.finditer(text[: partial.start()] if partial else text):
            private, numbers, _, final, control, letters = token.groups()
            if letters:
                self._put(letters)
            elif control:
                if control == "\n":
                    self._row += 1
                    self._scroll()
                self._column = 0 if control == "\r" else self._column
            elif final:
                self._command(private, numbers, final)

    def _command(self, private: str, numbers: str, final: str) -> None:
        if final in "hl" and private == "?":
            self.modes |= dict.fromkeys(numbers.split(";"), final == "h")
        elif final == "u" and private in "<>" and private:
            self.keyboards += 1 if private == ">" else -1
        elif final == "H":
            row, _, column = numbers.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif final == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif final == "K":
            self._clear(self._row, self._column)
        elif final == "J" and numbers in ("", "0"):
            self._clear(self._row, self._column)
            for below in range(self._row + 1, len(self._cells)):
                self._clear(below, 0)
        elif final == "J":
            self._cells = [[" "] * len(row) for row in self._cells]

    def _clear(self, row: int, column: int) -> None:
        """Wipes the end of a row."""
        if row < len(self._cells):
            self._cells[row][column:] = [" "] * len(self._cells[row][column:])

    def _scroll(self) -> None:
        """Moves the picture up once the cursor has left the last row."""
        while self._row >= len(self._cells):
            self._cells = [*self._cells[1:], [" "] * len(self._cells[0])]
            self._row -= 1

    def _put(self, letters: str) -> None:
        for letter in letters:
            if self._column >= len(self._cells[0]):
                self._row, self._column = self._row + 1, 0
                self._scroll()
            if self._row < len(self._cells) and self._column < len(self._cells[self._row]):
                self._cells[self._row][self._column] = letter
            self._column += 1
