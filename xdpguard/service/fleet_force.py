# SPDX-License-Identifier: GPL-2.0
"""Put in force what the fleet wants, as far as this host agrees, and log it. The lock is held."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Iterator

from xdpguard.control.controller import Controller
from xdpguard.control.foreign import Answer, Foreign
from xdpguard.fleet.keys import Key, parse_key
from xdpguard.fleet.message import FleetList, decode
from xdpguard.fleet.state import Message, State, Target, target_of
from xdpguard.net.sockets import Protected
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.foreign import Entry
from xdpguard.policy.rule import FLEET, GUARD
from xdpguard.policy.target import Prefix
from xdpguard.policy.target import Target as RuleTarget
from xdpguard.store import fleet as stored
from xdpguard.units import counted

_log = logging.getLogger(__name__)

_MANY = 200  # changed targets from which all are looked at
_SETTLE = 60.0  # seconds between two looks at all, where there are more entries than this host or a publisher may have
_SAID = 5  # lines of one kind at a time
_REMEMBERED = 10_000  # lines that are not said twice


class Force:
    """What is in force here of what the fleet wants."""

    def __init__(self, settings: Settings) -> None:
        self.state = State(settings.name)
        self.keeping = False  # the server lost its data: what is here stays until it ends, or an operator decides
        self.known = False  # the bucket was read
        self.refused: dict[str, str] = {}  # by target: why
        self.surplus: set[Target] = set()  # what publishers have above their bound; refused as well
        self._late = False  # something of such publishers was put off
        self._settings = settings
        self._stream = ""
        self._due: set[Target] = set()
        self._whole = False
        self._unban: set[Key] = set()
        self._said: dict[str, None] = {}
        self._settled_at = float("-inf")  # when all was looked at, monotonic, s

    @property
    def due(self) -> bool:
        """Whether anything is to be put in force."""
        return bool(self._due or self._whole or self._unban)

    def take(self, messages: Collection[Message], stream: str, ours: Collection[str]) -> None:
        """Take what came. ``stream``: of a whole snapshot; ``ours``: keys that this host itself has deleted."""
        if stream:
            self._stream, self._whole, self.known = stream, True, True
            self.state.become(messages)
        else:
            for it in messages:
                if it.data is None and it.key not in ours:
                    self._withdrawn(it.key)
            settled = self.state.settled
            self._due |= self.state.take(messages)
            self._whole = self._whole or settled != self.state.settled
        self.say("fleet: not an entry of the fleet: ", (f"{key}: {why}" for key, why in self.state.broken.items()))

    def pend(self, rows: dict[str, str]) -> None:
        """Let what is still to be published count here; ``rows``: see store/fleet.py."""
        found = []
        for key, value in rows.items():
            with contextlib.suppress(ValueError):  # of another version of this program
                found += [decode(key, value.encode())] if value else []
        before, self.state.pending = self.state.pending, {target_of(it.key): it for it in found}
        crowded = len(self.state) > self._settings.max_entries and self.refused
        if (crowded or self.surplus or self._late) and time.monotonic() - self._settled_at > _SETTLE:
            self._whole = self.known  # of too many, those that came last may be due before others; see _put_off
        self._due |= before.keys() ^ self.state.pending.keys() if self.known else set()

    def apply(
        self, session: Controller, places: Collection[str], needed: list[Protected], keep: Iterable[Prefix]
    ) -> None:
        """Put in force what is due."""
        server = [(it, "the fleet's server") for it in keep]
        its = Foreign(session.ruleset, FLEET, self._settings.limits, server, places, needed)
        if self._unban:
            targets = [it.target for it in self._unban if isinstance(it.target, Prefix)]
            session.rules.leave(list(session.rules.found("block", targets).values()), lambda it: it.source != GUARD)
            self._unban = set()
        if not self._whole:
            self._put_off()
        if self._whole:
            self._settled_at = time.monotonic()
            self._all(session, its)
        elif len(self._due) > _MANY and not self.keeping:
            self._tell(its.replace(self._all_wanted()), whole=True)
        else:
            self._few(its)
        self._due, self._whole = set(), False

    def _all(self, session: Controller, its: Foreign) -> None:
        servers = " ".join(sorted(self._settings.server))
        before, _, where = session.store.fact(stored.STREAM).partition(" ")
        self.keeping = where == servers and self._stream not in (before, self.state.settled)
        wanted = self._all_wanted()
        if self.keeping:
            _log.warning(
                "fleet: the server has lost its entries; this host keeps what it has of them until they end, or an"
                " operator decides: xdpguard fleet publish"
            )
            self._tell(its.put(wanted), whole=True)
            return
        self._tell(its.replace(wanted), whole=True)
        with session.store.transaction():
            session.store.put_fact(stored.STREAM, f"{self._stream} {servers}")

    def _all_wanted(self) -> Iterator[Entry]:
        """Settle what is surplus, and return the rest."""
        most = self._settings.per_host
        self.surplus, self._late = self.state.surplus(most), False
        words = f"has more than {counted(most, 'entry', 'entries')} ([fleet] max_per_host): the rest does not count"
        self.say("fleet: refused here: ", [f"{host} {words}" for host in self.crowded])
        return self.state.all_wanted(self._settings.ban_after, self.surplus)

    @property
    def crowded(self) -> dict[str, int]:
        """The publishers of more entries than count here, with how many they have."""
        return self.state.over(self._settings.per_host)

    def _put_off(self) -> None:
        """Leave what publishers of too many want to the next look at all: which of theirs count depends on the rest."""
        over = self.crowded.keys()
        late = {it for it in self._due if over and (by := self.state.publishers(it)) and over >= set(by)}
        self._due -= late
        self._late = self._late or bool(late)

    def _few(self, its: Foreign) -> None:
        due = {it for it in self._due if it[0] != "list"}  # see fleet_lists.py
        found = {target: self.state.wanted(target, self._settings.ban_after) for target in due}
        gone = [parse_key(f"x.{kind}.{name}") for kind, name in (it for it, entry in found.items() if entry is None)]
        for kind in ("block", "allow"):
            targets = [it.target for it in gone if it.kind == kind and isinstance(it.target, Prefix)]
            if targets and its.remove(kind, targets):
                _log.info(f"fleet: no longer {kind}ed: {_named(targets)}")
        names = [it.target for it in gone if isinstance(it.target, str)]
        if names and its.remove_filters(names):
            _log.info(f"fleet: filters removed: {_named(names)}")
        self.surplus -= due
        for it in gone:
            self.refused.pop(str(it.target), None)
        if entries := [it for it in found.values() if it is not None and not isinstance(it, FleetList)]:
            self._tell(its.put(entries))

    def _tell(self, answer: Answer, whole: bool = False) -> None:
        if whole:
            self.refused = {}
        for its in answer.taken:
            self.refused.pop(its.name if isinstance(its, NewFilter) else str(its.target), None)
        self.refused |= {str(it.target): it.why for it in answer.refused}
        if answer.changed and not whole and len(answer.taken) == 1:
            (one,) = answer.taken
            what = f"filter {one.name}" if isinstance(one, NewFilter) else f"{one.kind}ed {one.target}"
            _log.info(f"fleet: {what}" + (f": {one.reason}" if one.reason else ""))
        elif answer.changed or whole:
            _log.info(f"fleet: {len(answer.taken):,} of its entries taken, {len(answer.refused):,} refused")
        self.say("fleet: refused here: ", map(str, answer.refused))

    def say(self, what: str, lines: Iterable[str]) -> None:
        """Log what was not said before, and not more than a few lines at once."""
        new = [line for line in lines if line not in self._said]
        if len(self._said) > _REMEMBERED:
            self._said.clear()
        self._said |= dict.fromkeys(new)
        for line in new[:_SAID]:
            _log.warning(what + line)
        if len(new) > _SAID:
            _log.warning(f"{what}{len(new) - _SAID:,} more")

    def _withdrawn(self, name: str) -> None:
        """Note that another took back a ban of this host's guard: it ends here as well."""
        try:
            key = parse_key(name)
        except ValueError:
            return
        before = self.state.record(key)
        # What had ended is cleared away, and the guard may have banned the source again.
        if key.host == self._settings.name and before is not None and not before.ended(time.time()):
            self._unban |= {key} if before.origin == GUARD else set()


def _named(targets: Collection[RuleTarget | str]) -> str:
    return ", ".join(map(str, targets)) if len(targets) <= _SAID else f"{len(targets):,} of them"
