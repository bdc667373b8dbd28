# SPDX-License-Identifier: GPL-2.0
"""A group whose commands are imported and built one by one, on demand.

Importing every command and building its parser would take longer than most commands run. Help and completion of the
group itself need names and summaries alone, which its table holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command, get_command_name

from xdpguard.cli import output
from xdpguard.cli.catalogue import COMPLETES, Source, help_width
from xdpguard.instance import find


def _instance(context: Any, name: str) -> None:
    context.find_root().obj.instance = find(name)


def _verbose(context: Any, wanted: bool) -> None:
    context.find_root().obj.verbose = wanted


# The global options that commands take, too: their spellings, whether they are flags, and what puts them in force.
GLOBALS: tuple[tuple[tuple[str, ...], bool, Callable[[Any, Any], None]], ...] = (
    (("--instance",), False, _instance),
    (("--verbose", "-v"), True, _verbose),
    (("--color",), False, output.choose),
)
_EXAMPLE = re.compile(r"^  .*xdpguard .*", re.MULTILINE)


class LazyGroup(TyperGroup):
    """The commands of ``table``, by name; until loaded, each is a placeholder with its summary as help."""

    table: ClassVar[Mapping[str, Source]] = {}

    def __init__(self, **attributes: Any) -> None:
        attributes["commands"] = {
            name: TyperCommand(name, help=its.summary, short_help=its.summary) for name, its in self.table.items()
        }
        super().__init__(**attributes)
        self._loaded: dict[str, Any] = {}
        _complete(self, "")

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the arguments begin with, and load it."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if found and name else None, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An option that was mistyped never suggests the one that overrides refusals."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Typer's NoSuchOption, which it does not export.
            if getattr(error, "possibilities", None):
                error.possibilities = [it for it in error.possibilities if it != "--force"]  # type: ignore[attr-defined]
            raise

    def load(self, name: str) -> Any:
        """Import and build one command."""
        if name not in self._loaded:
            self._loaded[name] = found = _built(name, self.table[name].module)
            _summarize(found)
            _take_globals(found)
            _complete(found, f"{self.name or ''} {name}".removeprefix("xdpguard").strip())
        return self._loaded[name]


def _complete(command: Any, path: str) -> None:
    """Let a command's values be completed, if that is what a shell asks for; nothing else needs to know them."""
    if COMPLETES in os.environ:
        from xdpguard.cli import completion

        completion.offer(command, path)


def _summarize(command: Any) -> None:
    """Let groups show the whole first sentence of each command, which is cut otherwise, and its first example."""
    first = " ".join((command.help or "").partition("\n\n")[0].split())
    command.short_help = first.partition(". ")[0].rstrip(".") + "."
    below = getattr(command, "commands", {}).values()
    for its in below:
        _summarize(its)
    examples = [it[0] for it in (_EXAMPLE.findall(its.epilog or "") for its in below if not its.hidden) if it]
    if examples:
        command.epilog = "\n".join(["\b", "Examples:", *examples, "", command.epilog or ""])
    _lay_out(command)


def _lay_out(command: Any) -> None:
    """Let the help of a command take the terminal's width."""
    plain = command.get_help

    def laid_out(context: Any) -> str:
        from xdpguard.cli.helped import fitted

        return fitted(plain(context), help_width())

    command.get_help = laid_out


def every(group: Any) -> Iterator[tuple[str, Any]]:
    """Load all commands of a group, lazy or not; yield each with its name."""
    for name, command in group.commands.items():
        yield name, group.load(name) if isinstance(group, LazyGroup) else command


def found_in(group: Any, name: str) -> Any:
    """Return a command of a group by its name, loaded, or None. ``group``: any command."""
    if name not in getattr(group, "commands", ()):
        return None
    return group.load(name) if isinstance(group, LazyGroup) else group.commands[name]


def _take_globals(command: Any) -> None:
    """Let a command, and those below it, take the global options as well: people type them last."""
    for words, is_flag, given in GLOBALS:
        command.params.append(
            TyperOption(
                param_decls=list(words), is_flag=is_flag, hidden=True, expose_value=False, callback=_passed_on(given)
            )
        )
    if not isinstance(command, LazyGroup):
        for its in getattr(command, "commands", {}).values():
            _take_globals(its)


def _passed_on(given: Callable[[Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    def take(context: Any, _: Any, value: Any) -> None:
        if value and not context.resilient_parsing:
            given(context, value)

    return take


def _built(name: str, module: str) -> Any:
    """Build one of the commands or groups that a module registers, without the others' parsers."""
    part = typer.Typer(add_completion=False, rich_markup_mode=None)
    import_module(module).register(part)
    part.registered_groups = [it for it in part.registered_groups if it.name == name]
    part.registered_commands = [
        it
        for it in part.registered_commands
        if name == (it.name or get_command_name(getattr(it.callback, "__name__", "")))
    ]
    found: Any = get_command(part)
    return found.commands[name] if part.registered_groups else found
