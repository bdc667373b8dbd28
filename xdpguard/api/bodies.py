# SPDX-License-Identifier: GPL-2.0
"""What requests carry: each field is an option or an argument of the command of the same meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

# Never a lone dash, which on the command line stands for standard input.
_Word = Annotated[str, Meta(pattern=r"^[^-]", max_length=1000)]
_Text = Annotated[str, Meta(max_length=4096)]
_NEGATIVE = {"enforce": "shadow"}  # the others are --no-NAME


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No options."""


class _Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What rules of each kind have."""

    life: _Text = field(name="for", default="")
    reason: _Text = ""
    replace: bool = False
    force: bool = False
    confirm: _Text = ""


class Block(_Rule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sources to block. ``for``: how long (90s, 10m, 2h, 7d), without it for good; ``confirm``: undone after it."""

    targets: Annotated[list[_Word], Meta(min_length=1, max_length=10_000)]
    shadow: bool = False


class Allow(_Rule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sources to let through, whatever blocks them; the fields as of Block."""

    targets: Annotated[list[_Word], Meta(min_length=1, max_length=10_000)]


class Close(_Rule, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ports to close, as 8080/tcp, 53/udp or 80; the other fields as of Block."""

    ports: Annotated[list[_Word], Meta(min_length=1, max_length=1000)]


class Unblock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to unblock. ``shadow``: only the shadow rule, so that a block stays."""

    shadow: bool = False
    confirm: _Text = ""


class Disallow(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to remove an allow rule. ``force``: even if this host needs the address."""

    force: bool = False
    confirm: _Text = ""


class Confirmed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``confirm``: the change is undone after this time (60s, 10m) unless it is confirmed."""

    confirm: _Text = ""


class NewFilter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A filter: what it matches, and one of ``drop``, ``pass``, ``count`` and ``limit`` (a rate: 1000/s, 10mbit/s)."""

    name: _Word
    match: _Word
    drop: bool = False
    let_pass: bool = field(name="pass", default=False)
    count: bool = False
    limit: _Text = ""
    burst: _Text = ""
    per: _Text = ""
    shadow: bool = False
    before: _Text = ""
    life: _Text = field(name="for", default="")
    reason: _Text = ""
    replace: bool = False
    confirm: _Text = ""
    force: bool = False


class Move(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to ask a filter: ``before`` another, or ``last``."""

    before: _Text = ""
    last: bool = False
    confirm: _Text = ""
    force: bool = False


class Load(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to load a list; ``dry_run``: only tell how it is read."""

    strict: bool = False
    force: bool = False
    shadow: bool = False
    format: _Text = ""
    column: _Text = ""
    prefix_column: _Text = ""
    allow_empty: bool = False
    dry_run: bool = False
    confirm: _Text = ""


class GuardValues(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to change of the SYN guard, by name, as `guard set` takes it; ``default`` removes an override."""

    values: Annotated[dict[_Word, _Text], Meta(min_length=1, max_length=100)]
    force: bool = False
    confirm: _Text = ""


class DefaultDrop(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``enforce``: drop, or only count; ``strict_udp``: of UDP admit only answers. Null: as it is."""

    enforce: bool | None = None
    strict_udp: bool | None = None
    confirm: _Text = ""
    force: bool = False


class Forced(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``force``: even if it cuts off an address that this host needs, or what it undoes was changed since."""

    force: bool = False


class Promote(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shadow entries to enforce: ``targets`` of rules, names of ``lists`` and ``filters``, or ``all``; all or none.

    ``dry_run``: only tell what would be done; ``force``: even if it cuts off addresses this host needs.
    """

    targets: Annotated[list[_Word], Meta(max_length=10_000)] = []
    lists: Annotated[list[_Word], Meta(max_length=1000)] = []
    filters: Annotated[list[_Word], Meta(max_length=10_000)] = []
    every: bool = field(name="all", default=False)
    dry_run: bool = False
    force: bool = False
    confirm: _Text = ""


class WhichRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rules to show."""

    kind: Literal["", "allow", "block", "port", "shadow"] = ""


class WhichSyns(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to group initial SYNs, and how many rows to show; 0: all."""

    by: Literal["tuple", "source", "destination", "port"] = "tuple"
    top: Annotated[int, Meta(ge=0, le=1_000_000)] = 20


class WhichCuts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many ports and sources to show."""

    limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 10


class Question(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address, or a packet in a line, as `explain` takes it; ``interface``, ``netns``: where a packet comes in."""

    what: _Word
    interface: _Text = ""
    netns: _Text = ""


class WhichDrops(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which drops to show."""

    reason: _Text = ""
    interface: _Text = ""
    netns: _Text = ""
    count: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


def options(its: Struct, positional: tuple[str, ...]) -> list[str]:
    """Return the options of a command that the fields are, but for those that are arguments."""
    found = []
    for known in msgspec.structs.fields(its):
        value, name = getattr(its, known.name), known.encode_name.replace("_", "-")
        if known.encode_name in positional or value == known.default:
            continue
        if isinstance(value, list):
            found += [f"--{name.removesuffix('s')}={word}" for word in value]
        elif value is True:
            found.append(f"--{name}")
        elif value is False:
            found.append(f"--{_NEGATIVE.get(name, f'no-{name}')}")
        else:
            found.append(f"--{name}={value}")
    return found


def words(value: Any) -> list[str]:
    """Return the arguments that a field is."""
    if isinstance(value, dict):
        return [f"{key}={its}" for key, its in value.items()]
    return list(value) if isinstance(value, list) else [value]
