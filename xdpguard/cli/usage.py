# SPDX-License-Identifier: GPL-2.0
"""What the parser of the command line refuses, as errors in the style of all others: a sentence and a remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xdpguard.errors import UsageError

_SUGGESTED = re.compile(r" ?\((Possible options: .*|Did you mean .*\?)\)$| (Did you mean .*\?)$")
_UNKNOWN = re.compile(r"No such command '([^']*)'")
# What is of an interface, typed at a command that is for a whole instance.
_PLACE = ("--netns", "--interface", "-i")
_TARGETS = ("block", "unblock", "allow", "disallow")
_RULES = (*_TARGETS, "rules", "lists", "filter")
_ALIKE = 0.7  # as difflib has it; what is less alike is another word
_EXTRA = re.compile(r"got unexpected extra argument(?:s|\(s\))? \((.*)\)", re.IGNORECASE)
_NO_NUMBER = re.compile(r"is not a valid (int|integer|float)( range)?$")
_INSTEAD = {"xdpguard status": "it shows all interfaces; the counters of one: xdpguard stats IFACE"}


def refused(error: Exception, words: Sequence[str] = ()) -> UsageError | None:
    """Return what to tell of an exception of the parser; None if it is another, or the help that takes the place of a
    missing command. ``words``: the command line.
    """
    said = getattr(error, "format_message", None)
    if said is None or type(error).__name__ == "NoArgsIsHelpError":
        return None
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else _path(words)
    message = said().strip()
    if found := _of_command(path, message) or _of_option(path, message, error):
        return found
    see = f"see {path} --help"
    if suggested := _SUGGESTED.search(message):
        message = message[: suggested.start()]
        if meant := _meant(_typed(message), suggested[1] or suggested[2]):
            see = f"did you mean {meant}? {see}"
    if extra := _EXTRA.match(message):
        return UsageError(f"{path} takes no further word: {extra[1]}", _INSTEAD.get(path, see))
    message = _NO_NUMBER.sub("is not a number", message.rstrip("."))
    return UsageError(message[:1].lower() + message[1:], see)


def _path(words: Sequence[str]) -> str:
    """Return the command that a command line names; the parser does not always tell."""
    from typer.main import get_command

    from xdpguard.cli.commands import found_in
    from xdpguard.cli.root import app

    at: Any = get_command(app)
    path = "xdpguard"
    for word in words:
        if found := found_in(at, word):
            at, path = found, f"{path} {word}"
    return path


def _of_command(path: str, message: str) -> UsageError | None:
    """Return what to tell of a command that has another name here, or is a topic of the help."""
    from xdpguard.cli import elsewhere, topics

    unknown = _UNKNOWN.match(message)
    if not unknown:
        return None
    word = unknown[1]
    instead = elsewhere.COMMANDS.get(path, {}).get(word)
    if not instead and path == "xdpguard" and word in topics.names():
        instead = f"help {word} tells of it"
    return UsageError(f"no such command '{word}'", f"xdpguard {instead}") if instead else None


def _of_option(path: str, message: str, error: Any) -> UsageError | None:
    """Return what to tell of an option that has another name here, or does not go with the command."""
    from xdpguard.cli import elsewhere

    name = getattr(error, "option_name", "")
    if not name or "No such option" not in message:
        return None
    parameters = getattr(getattr(getattr(error, "ctx", None), "command", None), "params", ())
    there = [word for it in parameters for word in it.opts]
    own = path.rpartition(" ")[2]
    instead = elsewhere.option(name, there)
    if instead or (name in ("--file", "-f") and own in _TARGETS):
        of_file = f"a file is read from standard input: {path} - < FILE"
        remedy = f"it is called {instead} here; see {path} --help" if instead else of_file
        return UsageError(f"no such option: {name}", remedy)
    if name in ("--json", "-o", "--output") and path == "xdpguard":
        return UsageError(f"{name} goes after the command", f"for example: xdpguard status {name}")
    if name == "--port" and own in ("allow", "disallow"):
        remedy = "use a filter: xdpguard filter add NAME 'ip saddr ADDRESS tcp dport PORT' --pass"
        return UsageError("a rule joins no source and port, and allows sources only", remedy)
    return _of_place(path, name) if name in _PLACE else None


def _of_place(path: str, name: str) -> UsageError | None:
    """Return what to tell of an interface named at what is for all of them."""
    if not any(word in _RULES for word in path.split()[1:2]):
        return None
    return UsageError(
        f"{path} has no {name}: what it changes or shows is for every interface of the instance",
        "leave it out, or keep other rules in another instance: --instance NAME",
    )


def _typed(message: str) -> str:
    return message.removesuffix(".").rpartition(" ")[2].strip("'")


def _meant(typed: str, offered: str) -> str:
    """Return those of what the parser offers that a mistyped word can have meant."""
    import difflib

    words = offered.removeprefix("Possible options: ").removeprefix("Did you mean ").rstrip("?").split(", ")
    pairs = [(it, it.strip("'").lstrip("-")) for it in words]
    mine = typed.lstrip("-")
    near = difflib.get_close_matches(mine, [bare for _, bare in pairs], len(pairs), _ALIKE)
    return ", ".join(it for it, bare in pairs if bare in near or bare.startswith(mine) or mine.startswith(bare))
