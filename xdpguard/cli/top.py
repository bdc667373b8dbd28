# SPDX-License-Identifier: GPL-2.0
"""The command top."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import files
from xdpguard.cli import places
from xdpguard.cli.session import Options, controller, options, pins, ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.tui.reading import Reading
    from xdpguard.tui.view import View

_SHORTEST, _LONGEST = 0.1, 3600.0
_MOST_UPDATES = 10_000

_EXAMPLES = """
\b
Examples:
  xdpguard top                       the live screen; ? shows the keys, q quits
  xdpguard top --interface eth1      begin with one interface, not all together
  xdpguard top --once                one frame as text, for a log or an e-mail
  COLUMNS=120 LINES=40 xdpguard top --screenshot top.svg --updates 60

The keys that block and allow ask for confirmation first.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(top)


def top(
    context: typer.Context,
    interface: Annotated[
        str,
        typer.Option(
            "--interface", "-i", metavar="IFACE", help="Begin with this interface; the key i shows the others."
        ),
    ] = "",
    netns: places.Netns = None,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", help="How often to read.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame as text and exit.")] = False,
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", metavar="FILE", help="Write the screen as SVG and exit."),
    ] = None,
    updates: Annotated[
        int, typer.Option("--updates", metavar="N", help="With --screenshot: after this many readings.")
    ] = 8,
) -> None:
    """Watch live: packets by verdict and reason, who sends SYNs, rules, lists, the guard; block and allow by key."""
    if not _SHORTEST <= interval <= _LONGEST:
        raise UsageError("--interval is too short or too long", f"give {_SHORTEST} to {_LONGEST:.0f} seconds")
    if screenshot is not None:
        files.check_name(screenshot)
    if once and screenshot:
        raise UsageError("--once and --screenshot cannot be combined", "give one of them")
    if not 1 <= updates <= _MOST_UPDATES:
        raise UsageError("--updates is too small or too large", f"give 1 to {_MOST_UPDATES}")
    require_privileges()
    if not once and screenshot is None and not _terminal():
        raise UsageError("top needs a terminal", "use --once for one frame, or stats --watch 1 for repeated output")
    chosen = options(context)
    place = _place(chosen, interface, netns) if interface or netns is not None else None
    _run(chosen, place, interval, once, screenshot, updates)


def _place(chosen: Options, interface: str, netns: str | None) -> tuple[str, str]:
    """Return the attached interface that the options mean."""
    from xdpguard.cli.wanted import wanted

    found = wanted(chosen, None, interface, netns).places
    if len(found) > 1:
        names = ", ".join(places.key(*it) for it in found)
        raise UsageError(f"several interfaces match: {names}", "name one with --interface and --netns")
    return found[0]


def _run(
    chosen: Options,
    place: tuple[str, str] | None,
    interval: float,
    once: bool,
    screenshot: Path | None,
    updates: int,
) -> None:
    from xdpguard.tui.draw import ASCII, UNICODE
    from xdpguard.tui.reading import Reader
    from xdpguard.tui.view import View

    reading = partial(controller, chosen, read_only=True, on_undone=lambda text: None)  # the screen is not for notes
    read = Reader(pins(chosen), chosen.instance.store, reading)
    # A fault that prevents reading altogether is reported here, as by any other command.
    first = read()
    view = View(chosen.instance.name, interval, UNICODE if _unicode() or screenshot else ASCII, place=place)
    if once:
        _print(view, [lambda: first, read])
        return
    from xdpguard.tcp.proof import is_connected
    from xdpguard.tui.app import Top
    from xdpguard.tui.board import colourless

    if colourless(os.environ):
        os.environ["NO_COLOR"] = "1"

    def opened(on_wait: Callable[[str], None]) -> AbstractContextManager[Ruleset]:
        return ruleset(chosen, on_wait=on_wait, on_undone=on_wait)

    app = Top(view, read, opened, is_connected)
    if screenshot is not None:
        app.shoot(updates)
    columns, lines = shutil.get_terminal_size()
    with _as_it_was():
        app.run(headless=screenshot is not None, size=(columns, lines) if screenshot else None)
    if app.fault is not None:
        raise app.fault
    if screenshot is not None:
        try:
            screenshot.write_text(app.picture, encoding="utf-8")
        except (OSError, UnicodeError) as error:
            why = files.reason(screenshot, error)
            raise XdpguardError(f"cannot write {files.shown(screenshot)}: {why}", "name another file") from error


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Restore the terminal's settings at the end, whatever happens. Does nothing without a terminal."""
    try:
        before = termios.tcgetattr(0)
    except termios.error:
        yield
        return
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal no longer exists
            termios.tcsetattr(0, termios.TCSANOW, before)


def _print(view: View, readings: list[Callable[[], Reading]]) -> None:
    from xdpguard.tui.draw import plain
    from xdpguard.tui.frame import frame
    from xdpguard.tui.history import History

    history = History()
    for number, read in enumerate(readings):
        if number:
            select.select([], [], [], view.interval)
        view.take(history.add(read()))
    for line in frame(view, *shutil.get_terminal_size())[:-2]:
        typer.echo(plain(line).rstrip())


def _terminal() -> bool:
    """Return whether all standard streams are terminals: top draws on standard error and reads keys from input."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _unicode() -> bool:
    """Return whether the terminal shows more than ASCII, judging by the environment."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
    kind = os.environ.get("TERM", "")
    return "utf" in locale.lower() and kind not in ("", "dumb") and not kind.startswith(("vt1", "vt2", "vt52"))
