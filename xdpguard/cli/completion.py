# SPDX-License-Identifier: GPL-2.0
"""What a shell is offered for the values of arguments and options: names that exist on this host.

typer completes commands, options and choices by itself. A value is known by its command and its metavar. It is read
without the instance's lock; what cannot be read (without root, the store) offers nothing and prints nothing.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple, get_args, get_type_hints

from xdpguard.cli import catalogue

_WORDS, _CURRENT = "COMP_WORDS", "COMP_CWORD"
_BREAKS = re.compile("[:=]+")


class Item(NamedTuple):
    """One offer, in the shape that typer's shells print."""

    value: str
    help: str = ""
    type: str = "plain"


class _Bash:
    """What bash does not replace: the part of the word before the sign that it has cut it at."""

    cut = ""


Offers = Iterable[tuple[str, str]]  # values, and what each is


def offer(command: Any, path: str) -> None:
    """Have a command's parameters, and those of its subcommands, offer what exists.

    ``path``: its name, after that of its group.
    """
    for parameter in command.params:
        if found := _known(path, parameter):
            parameter.shell_complete = _completer(found)
    for name, its in getattr(command, "commands", {}).items():
        offer(its, f"{path} {name}")


def _completer(found: Callable[[Any], Offers]) -> Callable[[Any, str], list[Item]]:
    def complete(context: Any, incomplete: str) -> list[Item]:
        try:
            offers = [Item(value, its) for value, its in found(context) if value.startswith(incomplete)]
        except Exception:  # a shell that completes is no place for an error
            return []
        return [it._replace(value=it.value.removeprefix(_Bash.cut)) for it in offers]

    return complete


def join_words() -> None:
    """Join what bash cuts at : and =, such as IPv6 addresses and KEY=VALUE, in the words that it hands over.

    bash replaces only what comes after the last of these signs: what is before it is left out of the offers.
    """
    if os.environ.get(catalogue.COMPLETES) != "complete_bash" or "\n" not in os.environ.get(_WORDS, ""):
        return
    words = os.environ[_WORDS].split("\n")
    current = int(os.environ.get(_CURRENT, len(words) - 1))
    joined: list[str] = []
    for number, word in enumerate(words[: current + 1]):
        if number > 1 and word and (_BREAKS.fullmatch(word) or _BREAKS.fullmatch(words[number - 1])):
            joined[-1] += word
        else:
            joined.append(word)
    if len(joined) <= current:
        found = list(_BREAKS.finditer(joined[-1]))
        _Bash.cut = joined[-1][: found[-1].end()] if found else ""
    os.environ[_WORDS], os.environ[_CURRENT] = "\n".join(joined), str(len(joined) - 1)


def _known(path: str, parameter: Any) -> Callable[[Any], Offers] | None:
    metavar = (parameter.metavar or "").strip("[].")
    options = parameter.opts if parameter.param_type_name == "option" else []
    for command in (path, path.partition(" ")[0], ""):
        for name in (*options, metavar):
            if (command, name) in _VALUES:
                return _VALUES[command, name]
    if {"FILE", "DIRECTORY"} & set(metavar.split("|")):
        return lambda context: ()  # so that the shell offers files
    words = metavar.split("|")
    return (lambda context: _plain(words)) if len(words) > 1 and metavar.islower() else None


def _plain(values: Iterable[str]) -> Offers:
    return [(it, "") for it in values]


def _chosen(context: Any) -> str:
    return str(context.find_root().params.get("instance") or os.environ.get("XDPGUARD_INSTANCE") or "default")


def _store(context: Any) -> Any:
    from xdpguard import instance
    from xdpguard.store.database import Store

    return Store(instance.find(_chosen(context)).store, read_only=True)


def _rules(*labels: str) -> Callable[[Any], Offers]:
    def found(context: Any) -> Iterator[tuple[str, str]]:
        with _store(context) as store:
            for mode in ("enforce", "shadow"):
                for rule in store.rules(mode=mode):
                    if not labels or rule.label in labels:
                        yield str(rule.target), rule.reason

    return found


def _ports(context: Any) -> Offers:
    with _store(context) as store:
        return [(str(it.target), it.reason) for it in store.rules("port")]


def _lists(context: Any) -> Offers:
    from xdpguard.store.lists import ListStore

    with _store(context) as store:
        return sorted({(it.name, "") for mode in ("enforce", "shadow") for it in ListStore(store, mode).all()})


def _filters(context: Any) -> Offers:
    from xdpguard.store.filters import FilterStore

    with _store(context) as store:
        return [(it.name, it.reason) for it in FilterStore(store).all()]


def _presets(_context: Any) -> Offers:
    from xdpguard.policy.presets.catalogue import GROUPS, presets

    return [*_plain(GROUPS), *((it.name, it.summary) for it in presets(GROUPS))]


def _origins(context: Any) -> Offers:
    with _store(context) as store:
        rules = [rule for mode in ("enforce", "shadow") for rule in store.rules(mode=mode)]
    return _plain(sorted({part.source for rule in rules for part in rule.parts}))


def _bridges(context: Any) -> Offers:
    from xdpguard.store.bridges import bridges

    with _store(context) as store:
        return _plain(it.name for it in bridges(store))


def _attached(context: Any) -> Offers:
    from xdpguard.store.attachments import attachments

    with _store(context) as store:
        return [(it.name, f"in {it.netns}" if it.netns else "") for it in attachments(store)]


def _interfaces(context: Any) -> Offers:
    from xdpguard.net import netns

    name = context.params.get("netns")
    with netns.entered(netns.find(name).name) if name else nullcontext():
        return _plain(name for _, name in socket.if_nameindex())


def _namespaces(_context: Any) -> Offers:
    from xdpguard.net import netns

    return [(".", "this command's own"), *_plain(netns.names())]


def _instances(_context: Any) -> Offers:
    from xdpguard import instance

    return _plain(sorted(it.parent.name for it in instance.find("default").store.parent.parent.glob("*/store.db")))


def _reasons(_context: Any) -> Offers:
    from xdpguard.dataplane.sys.abi import reasons

    return [(it.name, it.help) for it in reasons() if it.action == "DROP"]


def _guard_keys(_context: Any) -> Iterator[tuple[str, str]]:
    from xdpguard.policy.model import Guard

    for key, kind in get_type_hints(Guard).items():
        usual = getattr(Guard(), key)
        words = ("true", "false") if kind is bool else get_args(kind)
        if words and all(isinstance(it, str) for it in words):
            yield from _plain(f"{key}={it}" for it in words)
        elif isinstance(usual, int | str):
            yield f"{key}={usual}", "the default"
        yield f"{key}=default", "what the configuration says"


def _formats(_context: Any) -> Offers:
    from xdpguard.policy.model import ListFormat

    return _plain(it for it in get_args(ListFormat) if it)


def _states(_context: Any) -> Offers:
    from xdpguard.tcp.names import STATES

    return _plain(STATES[1:])


def _words(_context: Any) -> Offers:
    from xdpguard.cli.topics import topics

    return [*((name, its.summary) for name, its in catalogue.COMMANDS.items()), *topics().items()]


# By command and option, command and metavar; then for any command.
_VALUES: dict[tuple[str, str], Callable[[Any], Offers]] = {
    ("unblock", "TARGET"): _rules("block", "shadow"),
    ("disallow", "TARGET"): _rules("allow"),
    ("promote", "TARGET"): _rules("shadow"),
    ("explain", "WHAT"): _rules("block", "allow", "shadow"),
    ("unblock", "--port"): _ports,
    ("promote", "--list"): _lists,
    ("promote", "--filter"): _filters,
    ("attach", "IFACE"): _interfaces,
    ("run", "--attach"): _interfaces,
    ("run", "--netns"): _namespaces,
    ("lists", "NAME"): _lists,
    ("filter", "NAME"): _filters,
    ("filter presets", "NAME|GROUP"): _presets,
    ("bridge forget", "NAME"): _bridges,
    ("help", "TOPIC|COMMAND"): _words,
    ("", "--origin"): _origins,
    ("", "--instance"): _instances,
    ("", "IFACE"): _attached,
    ("", "NETNS"): _namespaces,
    ("", "REASON"): _reasons,
    ("", "KEY=VALUE"): _guard_keys,
    ("lists", "--format"): _formats,
    ("", "--output"): lambda context: _plain(("wide", "tsv", "json")),
    ("", "--color"): lambda context: _plain(("auto", "always", "never")),
    ("", "FORM"): lambda context: _plain(("gobgp", "exabgp")),
    ("", "MODE"): lambda context: _plain(("enforce", "shadow")),
    ("", "STATE"): _states,
}
