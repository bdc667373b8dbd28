# SPDX-License-Identifier: GPL-2.0
"""Load a policy from TOML. Errors name the file, the line, the key and what is allowed there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from xdpguard import files
from xdpguard.errors import UsageError
from xdpguard.policy.api_values import api_faults
from xdpguard.policy.attach import AttachFault, AttachTo, parse_attach
from xdpguard.policy.duration import parse_duration, parse_interval
from xdpguard.policy.filters import FilterEntry, FilterFault, parse_filters
from xdpguard.policy.fleet import fleet_faults
from xdpguard.policy.foreign import ForeignLimits, check_origin
from xdpguard.policy.metrics import metrics_faults
from xdpguard.policy.model import LIST_NAME, Guard, ListFile, Policy
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import parse_ports

# Durations in [guard], with their bounds in seconds.
INTERVALS = {"window": (0.1, 10), "hold": (1, 600), "burst": (0.1, 600), "forget": (60, 10 * 365 * 86_400)}

LARGEST = 16 << 20  # bytes of a configuration: 300,000 rules
_EVERY = (10, 7 * 86_400)  # seconds between two checks of a list's file

_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_TOML_PART = r"(?:[\w-]+|\"[^\"]*\"|'[^']*')"
_TOML_KEY = re.compile(rf"\s*({_TOML_PART}(?:\s*\.\s*{_TOML_PART})*)\s*=")
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def load(path: Path) -> Policy:
    """Read a policy file. Raise UsageError if it cannot be read, is not TOML, or contains unknown keys or values."""
    data = files.read_bounded(path, LARGEST, "check the path given with --config")
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text", "TOML files are UTF-8") from error
    try:
        tables = tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # TOMLDecodeError is a ValueError, as is an overlong number
        line = _TOML_LINE.search(str(error))
        message = _TOML_LINE.sub("", str(error)).strip()
        where = f"{path}:{line[1]}" if line else str(path)
        raise UsageError(
            f"{where}: not TOML: {message}", "see the README's section on the configuration file"
        ) from error
    attach = _attach(path, text, tables.pop("attach", {}))
    filters = _filters(path, text, tables.pop("filters", []))
    try:
        for table, kind in (("lists", ListFile), ("bridges", ForeignLimits)):
            _check_each(path, text, table, tables.get(table), kind)
        policy = msgspec.convert(tables, Policy, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(path, text, str(error)) from error
    policy = msgspec.structs.replace(policy, attach=attach, filters=filters)
    _check_rules(path, text, policy)
    _check_bridges(path, text, policy)
    tables_faults = (
        ("guard", guard_faults(policy.guard)),
        ("metrics", metrics_faults(policy.metrics)),
        ("api", api_faults(policy.api)),
        ("fleet", fleet_faults(policy.fleet)),
    )
    for table, faults in tables_faults:
        for name, fault in faults:
            where = f"{path}:{_line_of(text, [table, name])}"
            raise UsageError(f"{where}: {table}.{name}: {fault}", fault.remedy)
    return _with_lists(path, text, policy)


def _attach(path: Path, text: str, data: object) -> tuple[AttachTo, ...]:
    try:
        return parse_attach(data)
    except AttachFault as fault:
        where = f"{path}:{_line_of(text, fault.keys, fault.entry)}"
        raise UsageError(f"{where}: {'.'.join(fault.keys)}: {fault}", fault.remedy) from fault


def _filters(path: Path, text: str, data: object) -> tuple[FilterEntry, ...]:
    try:
        return parse_filters(data)
    except FilterFault as fault:
        key = f".{fault.key}" if fault.key else ""
        raise UsageError(f"{path}:{fault.line(text)}: filters{key}: {fault}", fault.remedy) from fault


def _check_each(path: Path, text: str, table: str, found: object, kind: type) -> None:
    """Check each table of a table separately, because an error of the whole does not tell which one it is in."""
    if not isinstance(found, dict):
        return
    for name, its in found.items():
        try:
            if isinstance(its, dict):
                msgspec.convert(its, kind, strict=True)
        except msgspec.ValidationError as error:
            raise _explained(path, text, str(error), [table, name]) from error


def _with_lists(path: Path, text: str, policy: Policy) -> Policy:
    """Return the policy with its lists checked, and their paths resolved relative to the policy file."""
    lists = {}
    for name, its in policy.lists.items():
        try:
            if not LIST_NAME.fullmatch(name):
                raise UsageError(f"not a list name: {name!r}", "use up to 64 letters, digits, . _ or -")
            if not its.file:
                raise UsageError("file: empty", "name the file that holds the list")
            files.check_name(its.file, "name the file that holds the list")
            if not _EVERY[0] <= parse_interval(its.every) <= _EVERY[1]:
                raise UsageError("every: out of range", f"{_time(_EVERY[0])} to {_time(_EVERY[1])}")
        except UsageError as error:
            where = f"{path}:{_line_of(text, ['lists', name])}"
            raise UsageError(f"{where}: lists.{name}: {error}", error.remedy) from error
        lists[name] = msgspec.structs.replace(its, file=str(path.absolute().parent / its.file))
    return msgspec.structs.replace(policy, lists=lists)


def _check_bridges(path: Path, text: str, policy: Policy) -> None:
    for name, its in policy.bridges.items():
        try:
            check_origin(name)
            parse_duration(its.clock_skew)
        except UsageError as error:
            where = f"{path}:{_line_of(text, ['bridges', name])}"
            raise UsageError(f"{where}: bridges.{name}: {error}", error.remedy) from error


def guard_faults(guard: Guard) -> Iterator[tuple[str, UsageError]]:
    """Yield the key and error of each value of ``[guard]`` that has the right type but is invalid."""
    for key, (least, most) in INTERVALS.items():
        try:
            if not least <= parse_interval(getattr(guard, key)) <= most:
                yield key, UsageError("out of range", f"{_time(least)} to {_time(most)}")
        except UsageError as error:
            yield key, error
    if not guard.bans:
        yield "bans", UsageError("empty", "at least one duration, such as 10m")
    for key in ("bans", "exempt_ports"):
        for entry in getattr(guard, key):
            try:
                parse_duration(entry) if key == "bans" else parse_ports(entry)
            except UsageError as error:
                yield key, error


def _time(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def _check_rules(path: Path, text: str, policy: Policy) -> None:
    for key, parse in (("allow", parse_sources), ("block", parse_sources), ("ports", parse_ports)):
        for entry in getattr(policy.rules, key):
            try:
                parse(entry)
            except UsageError as error:
                line = _line_of(text, ["rules", key], entry)
                raise UsageError(f"{path}:{line}: rules.{key}: {error}", error.remedy) from error


def _explained(path: Path, text: str, message: str, above: list[str] | None = None) -> UsageError:
    where = _WHERE.search(message)
    keys = list(above or [])
    keys += re.sub(r"\[[^]]*\]", "", where[1]).split(".") if where and where[1] else []
    reason = _WHERE.sub("", message)
    unknown = _UNKNOWN.search(reason)
    if unknown:
        keys.append(unknown[1])
        known = _known(keys[:-1])
        reason, remedy = "unknown key", f"allowed here: {', '.join(known)}"
    else:
        remedy = "correct the value; the README lists every key with its default"
    key = ".".join(keys)
    return UsageError(f"{path}:{_line_of(text, keys)}: {key}: {reason[:1].lower() + reason[1:]}", remedy)


def _known(keys: list[str]) -> list[str]:
    kind: Any = Policy
    for key in keys:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]  # the key is a name
            continue
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == key)
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _key_parts(text: str) -> list[str]:
    """Return the parts of a dotted key, without quotes."""
    return [part.strip("\"'") for part in re.findall(_TOML_PART, text)]


def _line_of(text: str, keys: list[str], entry: str | None = None) -> int:
    """Return the line of a key, or of an entry of its list; if the key is absent, that of the enclosing table."""
    lines = text.splitlines()
    table: list[str] = []
    found, best = 1, 0
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[([^]]+)\]", line):
            path = table = _key_parts(header[1])
        elif key := _TOML_KEY.match(line):
            path = table + _key_parts(key[1])
        else:
            continue
        if len(path) > best and path == keys[: len(path)]:
            found, best = number, len(path)
    if entry is None:
        return found
    for number, line in enumerate(lines[found - 1 :], start=found):
        if f'"{entry}"' in line or f"'{entry}'" in line:
            return number
    return found
