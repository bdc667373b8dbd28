# SPDX-License-Identifier: GPL-2.0
"""The application: keys, prompts, threads, restoring the terminal. frame.py draws the screen."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from xdpguard.policy.target import Prefix
from xdpguard.tui.asking import Asking
from xdpguard.tui.board import Board
from xdpguard.tui.changes import Opened
from xdpguard.tui.draw import Span
from xdpguard.tui.driver import Driver
from xdpguard.tui.feed import Changer, Feed
from xdpguard.tui.filters import Filter
from xdpguard.tui.head import head
from xdpguard.tui.history import Snapshot
from xdpguard.tui.layout import boxes
from xdpguard.tui.messages import Arrived, Changed
from xdpguard.tui.panes import PANES
from xdpguard.tui.reading import Reading
from xdpguard.tui.traffic import Interfaces
from xdpguard.tui.view import View

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_LATE = 3.0  # intervals (plus one second) without a reading, after which figures are stale
_WHEEL = 3  # rows
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


class Top(App[None]):
    """The live screen."""

    CSS = "Screen, Board { background: ansi_default; color: ansi_default; overflow: hidden; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True)]

    def __init__(
        self, view: View, read: Callable[[], Reading], opened: Opened, connected: Callable[[Prefix, set[str]], bool]
    ) -> None:
        """``connected``: whether an address has a TCP connection in one of these namespaces."""
        super().__init__(driver_class=Driver, ansi_color=True)
        self.title = f"xdpguard top {view.instance}"
        self.view = view
        self.updates = 0
        self._board = Board(view)
        self._feed = Feed(read, view.interval, lambda snapshot, why: self._post(Arrived(snapshot, why)))
        self._changer = Changer(opened, lambda text, well: self._post(Changed(text, well)))
        self._asking = Asking(view, self._changer, self._say, lambda source: connected(source, self._namespaces()))
        self._typing: str | None = None
        self._newest: Snapshot | None = None
        self._at = time.monotonic()  # when the last figures arrived
        self._wanted = 0  # updates before the screenshot
        self.picture = ""  # SVG
        self.fault: Exception | None = None

    def compose(self) -> ComposeResult:
        """Yield the only widget."""
        yield self._board

    def on_mount(self) -> None:
        """Start reading. Signals exit as q does, since nothing else would restore the terminal."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.exit)
        self.set_interval(min(1.0, self.view.interval), self._watch)
        self._feed.start()

    def on_unmount(self) -> None:
        """Stop the threads."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        self._feed.stop()
        self._changer.finish()

    def _namespaces(self) -> set[str]:
        return {it.its.netns for it in self.view.snapshot.reading.interfaces} if self.view.snapshot else set()

    def shoot(self, updates: int) -> None:
        """Exit after this many updates, with a screenshot of the last one in ``picture``."""
        self._wanted = updates

    def _shot(self) -> None:
        # Viewing it must not require fonts from another host.
        self.picture = _FONTS.sub("", self.export_screenshot())
        self.exit()

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    def on_arrived(self, message: Arrived) -> None:
        """Show new figures, or say why there are none."""
        self.view.fault = message.fault
        if message.snapshot is not None:
            self._at = time.monotonic()
            self.updates += 1
            self._newest = message.snapshot
            self.view.age = 0.0
            if not self.view.paused:
                self.view.take(message.snapshot)
        else:
            self.view.age = time.monotonic() - self._at
        self._board.redraw()
        if self._wanted and self.updates == self._wanted:
            # Wait until the new figures have been drawn.
            self.call_after_refresh(self._shot)

    def _watch(self) -> None:
        self.view.age = time.monotonic() - self._at
        if self.view.age > 1 + _LATE * self.view.interval and not self.view.fault:
            self.view.fault = "no reading arrived"
        if self.view.stale():
            self._board.redraw()

    def on_changed(self, message: Changed) -> None:
        """Show the progress of a change."""
        self._say(message.text, "notice" if message.well is None else "good" if message.well else "bad")

    def _say(self, text: str, style: str = "") -> None:
        self.view.message = Span(text, style)
        self._board.redraw()

    def on_key(self, event: events.Key) -> None:
        """Handle a key, for the current prompt or for the tables."""
        event.stop()
        event.prevent_default()
        self.press(event.key, event.character or "")

    def on_paste(self, event: events.Paste) -> None:
        """Paste into the filter."""
        if self._typing is not None:
            self._type("", event.text.strip())

    def on_mouse_scroll_down(self) -> None:
        """Move the selection down."""
        self.view.move(_WHEEL)
        self._board.redraw()

    def on_mouse_scroll_up(self) -> None:
        """Move the selection up."""
        self.view.move(-_WHEEL)
        self._board.redraw()

    def on_click(self, event: events.Click) -> None:
        """Select a row."""
        width, height = self.size
        for box in boxes(self.view, width, len(head(self.view, width, height)), height - 2):
            row = event.screen_y - box.top
            if box.left <= event.screen_x < box.left + box.width and 0 <= row < box.height and not self._asking.change:
                self.view.pane = box.pane
                if row >= 2:
                    self.view.choose(self.view.choices[PANES[box.pane].name].top + row - 2)
        self._board.redraw()

    def press(self, key: str, letter: str) -> None:
        """Do what a key stands for."""
        if self._typing is not None:
            self._type(key, letter)
        elif self._asking.change is not None:
            self._asking.answer(key, letter)
        elif self.view.helping:
            self.view.helping = False
        else:
            self.view.message = Span("")
            self._command(key, letter)
        self._board.redraw()

    def _command(self, key: str, letter: str) -> None:
        view = self.view
        choice = view.choices[PANES[view.pane].name]
        plain: dict[str, Callable[[], object]] = {
            "q": self.exit,
            "question_mark": lambda: setattr(view, "helping", True),
            "tab": lambda: self._front(view.pane + 1),
            "shift+tab": lambda: self._front(view.pane - 1),
            "right": lambda: self._front(view.pane + 1),
            "left": lambda: self._front(view.pane - 1),
            "up": lambda: view.move(-1),
            "down": lambda: view.move(1),
            "pageup": lambda: view.move(-choice.height),
            "pagedown": lambda: view.move(choice.height),
            "home": lambda: view.choose(0),
            "end": lambda: view.choose(1 << 30),
            "s": lambda: self._say(f"sorted by {view.next_sort()}"),
            "r": lambda: setattr(choice, "reverse", not choice.reverse),
            "slash": lambda: self._filter(""),
            "escape": lambda: setattr(view, "wanted", Filter()),
            "p": self._pause,
            "space": self._pause,
            "i": view.next_interface,
            "enter": self._enter,
            "b": lambda: self._asking.ask("block"),
            "a": lambda: self._asking.ask("allow"),
            "u": lambda: self._asking.ask("remove"),
        }
        if letter.isdigit() and 1 <= int(letter) <= len(PANES):
            self._front(int(letter) - 1)
        elif key in plain:
            plain[key]()

    def _front(self, pane: int) -> None:
        self.view.pane = pane % len(PANES)

    def _pause(self) -> None:
        self.view.paused = not self.view.paused
        if not self.view.paused and self._newest is not None:
            self.view.take(self._newest)

    def _enter(self) -> None:
        found = self.view.chosen()
        if found and isinstance(found[0], Interfaces):
            self.view.pick(found[1].snapshot.reading.interfaces[found[2]].place)

    def _filter(self, text: str) -> None:
        self._typing = text
        self.view.wanted = Filter(text)
        prompt = [Span(" filter: ", "notice"), Span(text), Span(" ", "chosen")]
        self.view.prompt = [*prompt, Span("   Enter: keep, Esc: show all", "dim")]

    def _type(self, key: str, letter: str) -> None:
        assert self._typing is not None
        if key in ("enter", "escape"):
            self.view.wanted = Filter(self._typing.strip() if key == "enter" else "")
            self._typing, self.view.prompt = None, []
        elif key in ("backspace", "ctrl+h"):
            self._filter(self._typing[:-1])
        elif letter and letter.isprintable():
            self._filter((self._typing + letter)[:60])

    def _handle_exception(self, error: Exception) -> None:
        """Exit without a traceback on the terminal; the caller raises the exception again."""
        self.fault = self.fault or error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()
