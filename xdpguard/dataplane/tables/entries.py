# SPDX-License-Identifier: GPL-2.0
"""Rules as the entries of the kernel's tables: encode them, and compare what a table holds with what it should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from xdpguard.dataplane.sys import abi
from xdpguard.policy.rule import SAFETY, Rule
from xdpguard.policy.target import PROTOCOL_NUMBERS, Port, Prefix

# Each table of enforced rules, and of shadow rules, with the layout of its keys.
ENFORCED = {
    "allow4": abi.PREFIX4,
    "allow6": abi.PREFIX6,
    "deny4": abi.ADDRESS4,
    "deny4_prefix": abi.PREFIX4,
    "deny6": abi.ADDRESS6,
    "deny6_prefix": abi.PREFIX6,
    "ports": abi.PORT,
}
SHADOW = {"shadow4": abi.PREFIX4, "shadow6": abi.PREFIX6}

Entries = dict[str, dict[bytes, bytes]]  # by table and key


def entry(rule: Rule, boot_offset: float) -> tuple[str, bytes, bytes]:
    """Return a rule's map entry: table, key, value. ``boot_offset``: CLOCK_BOOTTIME minus Unix time, in seconds."""
    target = rule.target
    if isinstance(target, Port):
        key = abi.PORT.pack(target.number, PROTOCOL_NUMBERS[target.protocol])
        return "ports", key, _value(rule, boot_offset, 0)
    value = _value(rule, boot_offset, target.length)
    if rule.kind == "block" and target.is_address:
        address = abi.ADDRESS4 if target.version == 4 else abi.ADDRESS6
        return f"deny{target.version}", address.pack(target.network), value
    table = f"allow{target.version}" if rule.kind == "allow" else f"deny{target.version}_prefix"
    return table, _prefix_key(target), value


def _shadow_entry(rule: Rule, boot_offset: float) -> tuple[str, bytes, bytes]:
    """Return a shadow rule's map entry, as `entry` does; single addresses are prefixes."""
    target = rule.target
    assert isinstance(target, Prefix)
    return f"shadow{target.version}", _prefix_key(target), _value(rule, boot_offset, target.length)


def _prefix_key(target: Prefix) -> bytes:
    layout = abi.PREFIX4 if target.version == 4 else abi.PREFIX6
    return layout.pack(target.length, target.network)


def _value(rule: Rule, boot_offset: float, length: int) -> bytes:
    expires = 0 if rule.expires is None else max(1, int((rule.expires + boot_offset) * 1e9))
    return abi.RULE.pack(expires, rule.slot, length | (abi.RULE_NEEDED if rule.source == SAFETY else 0))


def entries(rules: Iterable[Rule], shadow: bool = False) -> Entries:
    """Return the entries of enforced or of shadow rules, for every table of theirs."""
    offset, encode = boot_offset(), _shadow_entry if shadow else entry
    found: Entries = {table: {} for table in (SHADOW if shadow else ENFORCED)}
    for rule in rules:
        table, key, value = encode(rule, offset)
        found[table][key] = value
    return found


def boot_offset() -> float:
    """Return CLOCK_BOOTTIME minus Unix time, seconds: added to an end in the store, it gives one for the kernel."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()


def same_rule(held: bytes | None, wanted: bytes) -> bool:
    """Return whether an entry is as wanted, ignoring ends that differ by less than a second."""
    if held is None:
        return False
    (end, slot, length), (new_end, new_slot, new_length) = abi.RULE.unpack(held), abi.RULE.unpack(wanted)
    return (slot, length) == (new_slot, new_length) and bool(end) == bool(new_end) and abs(end - new_end) < 10**9


class Difference:
    """What is to be changed so that tables hold what they should.

    ``changed``: entries to write, by table; ``stale``: keys to delete; ``moved``: slots whose counter belonged to
    another entry until now; ``repaired``: entries that are missing, wrong or superfluous.
    """

    def __init__(self, wanted: Entries, read: Callable[[str], Mapping[bytes, bytes]]) -> None:
        """``read`` returns what a table holds."""
        self.changed: Entries = {}
        self.stale: dict[str, list[bytes]] = {}
        self.repaired = 0
        strays: set[int] = set()
        for table, pairs in wanted.items():
            held = read(table)
            strays |= _stray_slots(held, pairs)
            changed = {key: value for key, value in pairs.items() if held.get(key) != value}
            self.changed[table], self.stale[table] = changed, [key for key in held if key not in pairs]
            self.repaired += sum(1 for key, value in changed.items() if not same_rule(held.get(key), value))
            self.repaired += len(self.stale[table])
        self.moved = (
            strays & {_slot(value) for pairs in wanted.values() for value in pairs.values()} if strays else strays
        )


def _stray_slots(held: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> set[int]:
    """Return the slots of a table's entries that are to be removed, or to count in another slot."""
    slots = {key: _slot(value) for key, value in held.items() if wanted.get(key) != value}
    return {slot for key, slot in slots.items() if key not in wanted or _slot(wanted[key]) != slot}


def _slot(value: bytes) -> int:
    return int(abi.RULE.unpack(value)[1])
