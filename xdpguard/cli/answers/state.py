# SPDX-License-Identifier: GPL-2.0
"""The answers of ``status`` and ``guard show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from xdpguard.cli.answers.bridges import Shown as Bridged
from xdpguard.cli.answers.changes import Confirmation
from xdpguard.policy.model import Guard

if TYPE_CHECKING:
    from xdpguard.control.answering import Reach
    from xdpguard.control.audit import Audit as Audited
    from xdpguard.control.audit import ShadowAudit as ShadowAudited
    from xdpguard.control.interfaces import Interface as Attached
    from xdpguard.control.needed import Conflict as Needed
    from xdpguard.control.recover import Recovered


class Answers(Struct, frozen=True):
    """Whether the answers of an interface's SYN guard arrive; if not: why, the remedy, and who detected it."""

    arrive: bool
    muted: bool = False
    by: str = ""
    why: str = ""
    remedy: str = ""

    @classmethod
    def of(cls, reach: Reach, name: str, netns: str) -> Answers | None:
        """Return this for one interface; None if it carries no program of the instance."""
        if (name, netns) not in reach.silences:
            return None
        found = reach.silences[name, netns]
        return cls(True) if found is None else cls(False, **found._asdict())


class Interface(Struct, frozen=True, kw_only=True):
    """An interface that carries the program, or should carry it."""

    name: str
    netns: str
    mode: str
    prog_id: int | None
    observe: bool
    mtu: int | None
    any_mtu: bool
    may_fix_mtu: bool  # the driver may refuse a larger MTU while this program is attached
    state: str
    answers: Answers | None

    @classmethod
    def of(cls, its: Attached, reach: Reach) -> Interface:
        """Convert an attached interface, and whether its guard can answer."""
        names = ("name", "netns", "mode", "prog_id", "observe", "any_mtu", "state")
        same = {name: getattr(its, name) for name in names}
        fixed = its.may_fix_mtu()
        return cls(**same, mtu=its.mtu or None, may_fix_mtu=fixed, answers=Answers.of(reach, its.name, its.netns))


class Held(Struct, frozen=True):
    """Stored entries, and how many of them the kernel holds."""

    stored: int
    held: int


class ShadowAudit(Struct, frozen=True):
    """How many of the stored shadow entries the kernel holds."""

    behind: bool
    rules: Held
    lists: dict[str, Held]

    @classmethod
    def of(cls, found: ShadowAudited) -> ShadowAudit:
        """Convert the findings of an audit."""
        return cls(found.behind, Held(*found.rules), {name: Held(*its) for name, its in found.lists.items()})


class Audit(Struct, frozen=True):
    """How much of what is stored the kernel holds; ``ratio``: 0 to 1; ``behind``: a change was interrupted.

    ``settings``: the data plane has those that it was given; ``filters``: of both modes. ``without_egress``:
    interfaces without the program at their egress, which the default needs.
    """

    ratio: float
    behind: bool
    rules: Held
    lists: dict[str, Held]
    shadow: ShadowAudit | None
    settings: bool
    filters: Held
    without_egress: list[str]

    @classmethod
    def of(cls, found: Audited) -> Audit:
        """Convert the findings of an audit."""
        lists = {name: Held(*its) for name, its in found.lists.items()}
        shadow = ShadowAudit.of(found.shadow) if found.shadow else None
        filters = Held(*found.filters)
        return cls(
            found.ratio,
            found.behind,
            Held(*found.rules),
            lists,
            shadow,
            found.seeded,
            filters,
            list(found.without_egress),
        )


class Awaited(Struct, frozen=True):
    """An interface that the configuration names, but that is not attached."""

    name: str
    netns: str


class Conflict(Struct, frozen=True):
    """An address that the host needs and entries block; its packets pass."""

    address: str
    role: str
    blocked_by: list[str]
    remedy: str

    @classmethod
    def of(cls, found: Needed) -> Conflict:
        """Convert a conflict that was found."""
        return cls(str(found.address), found.role, [it.words for it in found.entries], found.remedy)


class ShadowCounts(Struct, frozen=True):
    """The number of shadow rules, of entries in each shadow list, and of shadow filters."""

    rules: int
    lists: dict[str, int]
    filters: int


class Status(Struct, frozen=True, kw_only=True):
    """The answer of ``status``. ``degraded``: each fault in one sentence; ``allows_everybody``: notes on such rules.

    ``default``: what becomes of packets that belong to nothing, in words. ``state``: ok, flood or degraded.
    """

    instance: str
    abi: int
    interfaces: list[Interface]
    rules: dict[str, int]
    lists: dict[str, int]
    filters: int
    shadow: ShadowCounts
    audit: Audit | None
    awaited: list[Awaited]
    conflicts: list[Conflict]
    allows_everybody: list[str]
    default: str
    confirm: Confirmation
    bridges: list[Bridged]
    degraded: list[str]
    state: str


class GuardCounters(Struct, frozen=True, kw_only=True):
    """What the SYN guard has done on an interface, in packets."""

    cookies_valid: int
    cookie_sent: int
    cookie_bad: int
    ack_unknown: int
    syn_rate: int


class Guarded(Struct, frozen=True, kw_only=True):
    """A SYN guard; ``seconds``: since it became active; ``passed``: why segments without a socket pass."""

    netns: str
    mode: str
    active: bool
    floods: int
    cause: str
    port: int
    seconds: float
    translated: bool
    passed: list[str]
    notes: list[str]
    observe: bool
    answers: Answers
    counters: GuardCounters


class GuardShow(Struct, frozen=True):
    """The answer of ``guard show``: the policy, what was set by hand, each interface, and raised sysctls."""

    policy: Guard
    overrides: dict[str, Any]
    interfaces: dict[str, Guarded]
    sysctls: dict[str, Any]
    exempt_found: list[int]


class Recovery(Struct, frozen=True, kw_only=True):
    """What a lost store was, or would be, rebuilt from, and what is in it.

    ``copy``: Unix time of the copy, or null; ``salvaged``: what the damaged file had whole: rules, lists, filters.
    """

    dry_run: bool
    damage: str
    kept: str
    kernel: bool
    copy: float | None
    rules: dict[str, int]
    shadow_rules: int
    lists: dict[str, int]
    shadow_lists: dict[str, int]
    interfaces: list[str]
    unnamed: int
    filters: int
    other_filters: bool
    salvaged: list[str]

    @classmethod
    def of(cls, found: Recovered, damage: str, kept: str, dry_run: bool) -> Recovery:
        """Convert a recovery."""
        from xdpguard.cli.places import key

        same = found._asdict() | {"interfaces": [key(*place) for place in found.interfaces]}
        same["salvaged"] = list(found.salvaged)
        return cls(**same, damage=damage, kept=kept, dry_run=dry_run)
