# SPDX-License-Identifier: GPL-2.0
"""``[attach]``: which interfaces ``run`` attaches to.

[attach]
interfaces = ["eth0", "eth1@web"]   # NAME, or NAME@NETNS in another network namespace

[attach.eth0]                       # settings other than the defaults; also lists the interface
mode = "native"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from xdpguard.errors import UsageError
from xdpguard.policy.keys import sound

_INTERFACES = "interfaces"
_NAME = re.compile(r"[^\s/@]{1,127}")  # 15 characters, or an alternative name
_NETNS = re.compile(r"[^\s/@]{1,255}")


class AttachTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interface to attach to, with the options of ``attach``. An empty ``netns`` is that of ``run``."""

    name: str
    netns: str = ""
    mode: Literal["auto", "native", "generic"] = "auto"
    observe: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """What identifies an interface."""
        return self.name, self.netns


class AttachOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[attach.NAME]``: the settings of an interface."""

    netns: str = ""
    mode: Literal["auto", "native", "generic"] = "auto"
    observe: bool = False


class AttachFault(UsageError):
    """An error in ``[attach]``; ``keys`` locate it, from the top of the file."""

    def __init__(self, keys: list[str], entry: str | None, error: UsageError) -> None:
        super().__init__(str(error), error.remedy)
        self.keys = ["attach", *keys]
        self.entry = entry


def parse_place(text: str, netns: str = "") -> AttachTo:
    """Parse ``NAME`` or ``NAME@NETNS``; ``netns`` applies if none is written. Raise UsageError if it is neither."""
    name, mark, written = text.partition("@")
    if not _NAME.fullmatch(name) or name in (".", "..") or (mark and not _NETNS.fullmatch(written)):
        raise UsageError(
            f"not an interface: {text[:60]!r}", 'write "eth0", or "eth0@web" for one in the network namespace web'
        )
    if mark and netns and written != netns:
        raise UsageError(f"{text} has a second network namespace, {netns}", "give its namespace once")
    return AttachTo(name, written or netns)


def parse_attach(data: object, tell: Callable[[AttachFault], None]) -> tuple[AttachTo, ...]:
    """Parse the table. ``tell`` is called with each fault, and what is at fault is left out."""
    found: dict[tuple[str, str], AttachTo] = {}
    if not isinstance(data, dict):
        error = UsageError("expected a table", f"[attach] contains {_INTERFACES}, and tables by name")
        tell(AttachFault([], None, error))
        return ()
    names: Iterable[str] = ()
    with _told(tell):
        names = _names(data.get(_INTERFACES, []))
    for text in names:
        with _told(tell):
            its = _placed([_INTERFACES], text, text, "")
            if its.place in found:
                raise AttachFault([_INTERFACES], text, UsageError(f"{text} is listed twice", "list it once"))
            found[its.place] = its
    tables: set[tuple[str, str]] = set()
    for key, table in data.items():
        if key == _INTERFACES:
            continue
        with _told(tell):
            its = _table(key, table, tell)
            if its.place in tables:
                raise AttachFault([key], None, UsageError(f"{key} has two tables", "write one for each interface"))
            tables.add(its.place)
            found[its.place] = its
    return tuple(found.values())


@contextmanager
def _told(tell: Callable[[AttachFault], None]) -> Iterator[None]:
    try:
        yield
    except AttachFault as fault:
        tell(fault)


def _names(value: object) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(it, str) for it in value):
        raise AttachFault(
            [_INTERFACES], None, UsageError("expected a list of names", 'for example ["eth0", "eth1@web"]')
        )
    return value


def _table(key: str, table: object, tell: Callable[[AttachFault], None]) -> AttachTo:
    if not isinstance(table, dict):
        remedy = f'list interfaces in {_INTERFACES} = ["eth0"], and their settings in [attach.NAME]'
        raise AttachFault([key], None, UsageError("unknown key", remedy))
    held = sound(table, AttachOptions, [key], lambda keys, error: tell(AttachFault(keys, None, error)))
    options = msgspec.convert(held, AttachOptions, strict=True)
    its = _placed([key], None, key, options.netns)
    return AttachTo(its.name, its.netns, options.mode, options.observe)


def _placed(keys: list[str], entry: str | None, text: str, netns: str) -> AttachTo:
    try:
        return parse_place(text, netns)
    except UsageError as error:
        raise AttachFault(keys, entry, error) from error
