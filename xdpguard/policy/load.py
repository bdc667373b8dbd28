# SPDX-License-Identifier: GPL-2.0
"""Load a policy from TOML. All mistakes are told at once, each with its line, its key and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from xdpguard import files
from xdpguard.errors import UsageError
from xdpguard.policy.api_values import api_faults
from xdpguard.policy.attach import AttachFault, AttachTo, parse_attach
from xdpguard.policy.duration import parse_duration, parse_within
from xdpguard.policy.filters import FilterEntry, FilterFault, parse_filters
from xdpguard.policy.fleet import fleet_faults
from xdpguard.policy.foreign import check_origin
from xdpguard.policy.guard_values import guard_faults
from xdpguard.policy.keys import sound
from xdpguard.policy.metrics import metrics_faults
from xdpguard.policy.model import LIST_NAME, Policy
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import parse_ports
from xdpguard.policy.toml_lines import line_of
from xdpguard.units import counted

LARGEST = 16 << 20  # bytes of a configuration: 300,000 rules
_EVERY = (10, 7 * 86_400)  # seconds between two checks of a list's file
_TOLD = 20  # mistakes that are told one by one
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


class Mistake(NamedTuple):
    """A mistake in a configuration file: where it is, what it is, how to mend it. ``line``: 0 if it is not known."""

    line: int
    key: str
    message: str
    remedy: str


class Mistakes(UsageError):
    """The mistakes of a configuration file, by line. ``str()`` tells of the first, and how many more there are."""

    def __init__(self, path: Path, found: list[Mistake]) -> None:
        self.found = sorted(found)
        self.each = [UsageError(_words(path, it), it.remedy) for it in self.found[:_TOLD]]
        if len(found) > _TOLD:
            left = counted(len(found) - _TOLD, "more mistake")
            self.each.append(UsageError(f"{path}: {left}", "correct these first"))
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        super().__init__(f"{self.each[0]}{more}", self.each[0].remedy)


def load(path: Path) -> Policy:
    """Read a policy file. Raise UsageError if it cannot be read, Mistakes for all that is wrong in it."""
    text = _read(path)
    try:
        tables = tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # TOMLDecodeError is a ValueError, as is an overlong number
        line = _TOML_LINE.search(str(error))
        message = _TOML_LINE.sub("", str(error)).strip()
        remedy = "see xdpguard help configuration"
        raise Mistakes(path, [Mistake(int(line[1]) if line else 0, "", f"not TOML: {message}", remedy)]) from error
    reading = _Reading(text)
    policy = reading.policy(tables)
    if reading.mistakes:
        raise Mistakes(path, reading.mistakes)
    lists = {
        name: msgspec.structs.replace(its, file=str(path.absolute().parent / its.file))
        for name, its in policy.lists.items()
    }
    return msgspec.structs.replace(policy, lists=lists)


def _read(path: Path) -> str:
    data = files.read_bounded(path, LARGEST, "check the path given with --config")
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", "TOML files are UTF-8") from error


def _words(path: Path, its: Mistake) -> str:
    where = f"{path}:{its.line}" if its.line else str(path)
    return f"{where}: {its.key}: {its.message}" if its.key else f"{where}: {its.message}"


class _Reading:
    """A text that is read; what is wrong in it is kept, and the rest is read on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.mistakes: list[Mistake] = []

    def policy(self, tables: dict[str, Any]) -> Policy:
        """Return what the tables say, without what is wrong in them."""
        attach = self._attach(tables.pop("attach", {}))
        filters = self._filters(tables.pop("filters", []))
        held = sound(tables, Policy, [], self._wrong)
        policy: Policy = msgspec.convert(held, Policy, strict=True)
        for at, entry, fault in _faults(policy):
            self._wrong(at, fault, entry)
        return msgspec.structs.replace(policy, attach=attach, filters=filters)

    def _wrong(self, keys: list[str], error: UsageError, entry: str | None = None) -> None:
        line = line_of(self._text, keys, entry)
        self.mistakes.append(Mistake(line, ".".join(keys), str(error), error.remedy))

    def _attach(self, data: object) -> tuple[AttachTo, ...]:
        def tell(fault: AttachFault) -> None:
            self._wrong(fault.keys, fault, fault.entry)

        return parse_attach(data, tell)

    def _filters(self, data: object) -> tuple[FilterEntry, ...]:
        def tell(fault: FilterFault) -> None:
            key = f"filters.{fault.key}" if fault.key else "filters"
            self.mistakes.append(Mistake(fault.line(self._text), key, str(fault), fault.remedy))

        return parse_filters(data, tell)


def _faults(policy: Policy) -> Iterator[tuple[list[str], str | None, UsageError]]:
    """Yield what is wrong with values of the right type: the keys, the entry of a list, and the error."""
    for key, parse in (("allow", parse_sources), ("block", parse_sources), ("ports", parse_ports)):
        for entry in getattr(policy.rules, key):
            try:
                parse(entry)
            except UsageError as error:
                yield ["rules", key], entry, error
    for table, faults in (
        ("guard", guard_faults(policy.guard)),
        ("metrics", metrics_faults(policy.metrics)),
        ("api", api_faults(policy.api)),
        ("fleet", fleet_faults(policy.fleet)),
    ):
        yield from (([table, *name.split(".")], None, fault) for name, fault in faults)
    named: list[tuple[list[str], Callable[[], object]]] = []
    for name, limits in policy.bridges.items():
        named.append((["bridges", name], partial(check_origin, name)))
        named.append((["bridges", name, "clock_skew"], partial(parse_duration, limits.clock_skew)))
    for name, its in policy.lists.items():
        named.append((["lists", name], partial(_check_list_name, name)))
        named.append((["lists", name, "file"], partial(_check_file, its.file)))
        named.append((["lists", name, "every"], partial(parse_within, its.every, *_EVERY)))
    for keys, check in named:
        try:
            check()
        except UsageError as error:
            yield keys, None, error


def _check_list_name(name: str) -> None:
    if not LIST_NAME.fullmatch(name):
        raise UsageError(f"not a list name: {name!r}", "use up to 64 letters, digits, . _ or -")


def _check_file(file: str) -> None:
    remedy = "name the file that holds the list"
    if not file:
        raise UsageError("the name is empty", remedy)
    files.check_name(file, remedy)
