# SPDX-License-Identifier: GPL-2.0
"""Change rules for block, unblock, allow and disallow, and say what is so afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from xdpguard import units
from xdpguard.cli import notes, render, undoing
from xdpguard.cli.session import options, ruleset
from xdpguard.control.results import STATES, until
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.duration import parse_life
from xdpguard.policy.target import Kind, Prefix, Target

if TYPE_CHECKING:
    from xdpguard.control.presence import Presences
    from xdpguard.control.results import Added
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.control.standing import Standing
    from xdpguard.store.database import Store

_NAMED = 5  # targets that are named one by one
_LOOKED_AT = 100  # targets for which it is said what else decides about them
_SHORTEN = "use --replace"
_NOTHING_DROPPED = "nothing is attached: nothing is dropped until the next attach"
_COUNTING = "nothing is attached: stored, counts from the next attach on"


@dataclass(frozen=True)
class Wanted:
    """Rules to add: how long as typed, and why.

    ``replace``: also if they end sooner than what is there; ``confirm``: the time in which to confirm them, as typed.
    """

    kind: Kind
    targets: Sequence[Target]
    life: str | None = None
    reason: str = ""
    replace: bool = False
    confirm: str = ""

    @property
    def seconds(self) -> int | None:
        """How long they last; None: for good."""
        return parse_life(self.life)


def add(context: typer.Context, wanted: Wanted, check: Callable[[Store], None] | None, accepted: bool = False) -> None:
    """Add rules. ``check`` refuses; ``accepted``: the user has forced them on what this host needs."""
    from xdpguard.control import needed
    from xdpguard.control.presence import presences_of

    seconds, reason = wanted.seconds, reason_of(wanted.reason)
    with ruleset(options(context), command=undoing.of_command(context, wanted.confirm)) as found:
        if check is not None:
            check(found.store)
        found.rules.purge()
        done = found.rules.add(wanted.kind, wanted.targets, reason, "cli", seconds, wanted.replace)
        if accepted:
            needed.accept(found.store, blocks=wanted.targets)
        told = list(overridden(found, wanted.targets)) if wanted.kind == "block" else []
        if wanted.kind == "block":
            notes.tell_of_needed(found.store, wanted.targets, seconds, accepted)
        where = presences_of(found)
    for line in _added(done, wanted.kind, seconds):
        render.say(line)
    for text in [*told, *where.notes()]:
        render.note(text)


def add_shadow(context: typer.Context, wanted: Wanted) -> None:
    """Add shadow rules."""
    from xdpguard.control.presence import presences_of

    seconds, reason = wanted.seconds, reason_of(wanted.reason)
    with ruleset(options(context), command=undoing.of_command(context, wanted.confirm)) as found:
        found.shadow_rules.purge()
        done = found.shadow_rules.add("block", wanted.targets, reason, "cli", seconds, wanted.replace)
        for target in wanted.targets if len(wanted.targets) <= _LOOKED_AT else ():
            assert isinstance(target, Prefix)
            for rule in found.store.covering("block", target, time.time())[:1]:
                inside = "is" if rule.target == target else f"is inside {rule.target}, which is"
                render.note(f"{target} {inside} blocked: the shadow rule counts nothing while that block lasts")
        where = presences_of(found)
    fresh = [it.now.target for it in done.puts if it.before is None]
    if fresh:
        render.say(f"counting what a block of {named(fresh)} would drop{_end(seconds)}")
    there = [it for it in done.puts if it.before is not None]
    for put in there if len(there) <= _NAMED else ():
        render.say(f"already counting for {put.now.target}, now {until(put.now.expires)}")
    if len(there) > _NAMED:
        render.say(f"already counting for {len(there):,} of them; the later end stays")
    for text in where.notes(_COUNTING):
        render.note(text)


def remove(
    context: typer.Context,
    kind: Kind,
    targets: Sequence[Target],
    check: Callable[[Store], None] | None,
    confirm: str = "",
) -> None:
    """Remove rules."""
    from xdpguard.control.presence import presences_of
    from xdpguard.control.standing import Standing

    with ruleset(options(context), command=undoing.of_command(context, confirm)) as found:
        if check is not None:
            check(found.store)
        found.rules.purge()
        done = found.rules.remove(kind, targets)
        if kind == "allow":
            notes.tell_of_everybody(found.store, targets)
        standing, where = Standing(found), presences_of(found)
        looked_at = [it for it in (targets if len(targets) <= _LOOKED_AT else ()) if isinstance(it, Prefix)]
        lines = [f"{it} {words}" for it in looked_at if (words := _after_disallow(standing, where, it))]
    gone = [target for target in targets if target not in done.ended]
    verb = {"allow": "no longer allowed:", "block": "unblocked", "port": "reopened"}[kind]
    _tell_ended(kind, done.ended)
    kept = {rule.target for rule in done.kept}
    if kind == "port" and (left := [target for target in gone if target not in kept]):
        render.say(f"{verb} {named(left)}")
    for target in kept if kind == "port" else ():
        render.say(f"{target} stays closed by the configuration file; remove it from [rules] there")
    if kind == "allow":
        still = {rule.target for rule in done.kept}
        left = [it for it in gone if it not in still]
        if left:
            render.say(f"{verb} {named(left)}")
        for line in lines:
            render.say(line)
        if lines and not where.enforcing:
            for text in where.notes(_NOTHING_DROPPED):
                render.note(text)


def unblock(context: typer.Context, targets: Sequence[Prefix], shadow: bool, confirm: str = "") -> None:
    """Remove block rules and shadow rules, and say what drops the same sources still."""
    from xdpguard.control.presence import presences_of
    from xdpguard.control.standing import Standing

    with ruleset(options(context), command=undoing.of_command(context, confirm)) as found:
        found.purge()
        shadows = found.shadow_rules.found("block", targets)
        missing = next((target for target in targets if target not in shadows), None)
        if shadow and missing is not None and found.store.ended("block", missing, "shadow") is None:
            raise XdpguardError(
                f"there is no shadow rule for {missing}",
                "nothing was changed; xdpguard rules --kind shadow shows them all",
            )
        blocked = found.rules.found("block", targets)
        # A target with neither is named when it is removed.
        real = [] if shadow else [target for target in targets if target in blocked or target not in shadows]
        standing, where = Standing(found), presences_of(found)
        for target in real:
            if target not in blocked and found.store.ended("block", target) is None:
                words = standing.dropped(target)
                if words:
                    what = f"{target} has no block of its own, but {where.being()} {words}"
                    raise XdpguardError(what, "nothing was changed")
        done = found.unblock(real, list(shadows.values()))
        standing = Standing(found)
        left: dict[Target, str] = {it: standing.dropped(it) for it in (real if len(real) <= _LOOKED_AT else ())}
        again = list(notes.may_come_again(blocked.values(), standing) if real else ())
    _tell_ended("block", {target: at for target, at in done.ended.items() if not left.get(target)})
    if real:
        clear = [target for target in real if target not in done.ended and not left.get(target)]
        if clear:
            render.say(f"unblocked {named(clear)}")
    else:
        render.say(f"no longer counting {named(targets)}")
    for it, words in left.items():
        if words:
            what = f"the block of {it} has ended" if it in done.ended else f"removed the block of {it}"
            render.say(f"{what}, but it {where.being('still')} {words}")
    for text in (*again, *(where.notes(_NOTHING_DROPPED) if any(left.values()) else ())):
        render.note(text)


def reason_of(text: str) -> str:
    """Return a reason if it can be stored. Raise UsageError if it has control characters, or is not valid text."""
    strange = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), "")
    if strange:
        byte = f": byte 0x{ord(strange) & 0xFF:02x}" if strange >= "\udc80" else ""
        encoding = sys.getfilesystemencoding().upper()
        raise UsageError(f"the reason is not valid {encoding}{byte}", f"give it in {encoding}, or in ASCII")
    if any(map(units.is_control, text)):
        raise UsageError("the reason contains control characters", "give plain text in one line")
    return text


def named(targets: Sequence[Target]) -> str:
    """Return targets by name, or how many if they are many."""
    return ", ".join(str(target) for target in targets) if len(targets) <= _NAMED else f"{len(targets):,} targets"


def overridden(found: Ruleset, targets: Sequence[Target]) -> Iterator[str]:
    """Say which of these sources an allow rule lets through."""
    from xdpguard.control.standing import Standing

    standing = Standing(found)
    for target in targets if len(targets) <= _LOOKED_AT else ():
        if isinstance(target, Prefix) and (words := standing.passing(target)):
            yield words


def _added(done: Added, kind: Kind, seconds: float | None) -> Iterator[str]:
    fresh = [it.now.target for it in done.puts if it.before is None]
    if fresh:
        yield f"{STATES[kind]} {named(fresh)}{_end(seconds)}"
    there = [it for it in done.puts if it.before is not None]
    if len(there) <= _NAMED:
        yield from (it.words(_SHORTEN) for it in there)
        return
    stay = sum(1 for it in there if not it.changed)
    if len(there) > stay:
        yield f"of {len(there):,} targets {STATES[kind]} already, {len(there) - stay:,} got a new end or reason"
    if stay:
        yield f"of {len(there):,} targets {STATES[kind]} already, {stay:,} did not change; {_SHORTEN} to shorten"


def _after_disallow(standing: Standing, where: Presences, target: Prefix) -> str:
    rule = standing.allowed(target)
    if rule is not None and rule.target == target:
        return f"is still allowed by the configuration file {until(rule.expires)}"
    if rule is not None:
        return f"is still allowed {until(rule.expires)}: it is inside {rule.target}, which is"
    words = standing.dropped(target)
    return f"{where.being('now')} {words}" if words else ""


def _tell_ended(kind: Kind, ended: dict[Target, float]) -> None:
    for target, at in list(ended.items())[:_NAMED]:
        render.say(f"{target} is no longer {STATES[kind]}: that ended by itself at {units.moment(at)}")
    if len(ended) > _NAMED:
        render.say(f"... and {len(ended) - _NAMED:,} more whose time had ended")


def _end(seconds: float | None) -> str:
    return f" for {units.span(seconds)}, until {units.moment(time.time() + seconds)}" if seconds else ""
