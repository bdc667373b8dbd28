# SPDX-License-Identifier: GPL-2.0
"""Allow rules that let everybody in: 0.0.0.0/0, ::/0, and what amounts to them together.

An allow rule overrides every block, list, closed port and check, so such rules switch the policy off.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from xdpguard.errors import XdpguardError
from xdpguard.policy.rule import CONFIG, NewRule, Rule
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.store.database import Store

# What the Internet has no addresses in: IANA's special-purpose registries (RFC 6890), multicast and reserved space.
_NOT_PUBLIC4 = [
    parse_prefix(it)[0]
    for it in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        "224.0.0.0/3",
    )
]
_PUBLIC6 = parse_prefix("2000::/3")[0]  # global unicast, RFC 4291
_FORCE = "use --force to override"
_LONGEST = {4: 16, 6: 32}  # bits: with longer prefixes alone, everybody would take tens of thousands of rules


def everybody(
    store: Store, config: Collection[NewRule] | None = None, more: Collection[NewRule] = ()
) -> dict[int, list[Prefix]]:
    """Return the IP versions of which every public address is allowed, each with the prefixes that do it.

    ``config``: the coming rules of the configuration, which replace the stored ones; ``more``: rules to be added.
    """
    now = time.time()
    stored = [it for it in store.rules("allow") if it.expires is None or it.expires > now]
    rules: list[Rule | NewRule] = [it for it in stored if config is None or it.origins != [CONFIG]]
    rules += [it for it in (*(config or ()), *more) if it.kind == "allow"]
    targets = {it.target for it in rules if isinstance(it.target, Prefix)}
    found = {}
    for version in (4, 6):
        wide = sorted(it for it in targets if it.version == version and it.length <= _LONGEST[version])
        all_of_it = [it for it in wide if it.length == 0] or (wide if _whole(version, wide) else [])
        if all_of_it:
            found[version] = all_of_it
    return found


def check(store: Store, rules: Collection[NewRule], config: Collection[NewRule] | None = None) -> None:
    """Refuse allow rules to be added that let in everybody, alone or together with those there are.

    ``config``: as in `everybody`; ``rules`` may be among them.
    """
    before, after = everybody(store, () if config is not None else None), everybody(store, config, rules)
    asked = {it.target.version for it in rules if isinstance(it.target, Prefix) and it.target.length == 0}
    for version in after:
        if version in asked or version not in before:
            raise XdpguardError(
                f"{named(after[version])} would let every IPv{version} address in, whatever blocks it",
                f"nothing was changed; allow the addresses you need; {_FORCE}",
            )


def notes(store: Store, versions: Collection[int] = (4, 6)) -> list[str]:
    """Return a sentence for each of these IP versions of which every address is allowed."""
    return [
        f"allow {named(its)} lets every IPv{version} address in: no block, list, closed port or check holds for it;"
        f" to put them in force: xdpguard disallow {named(its, ' ')}"
        for version, its in everybody(store).items()
        if version in versions
    ]


def named(prefixes: Collection[Prefix], between: str = ", ") -> str:
    """Format prefixes for people; few of them."""
    shown = [str(it) for it in list(prefixes)[:4]]
    return between.join(shown) + (f"{between}..." if len(prefixes) > len(shown) else "")


def _whole(version: int, prefixes: Iterable[Prefix]) -> bool:
    """Return whether these prefixes hold every public address."""
    first, last = _range(_PUBLIC6) if version == 6 else (0, (1 << 32) - 1)
    ranges = sorted(_range(it) for it in (*prefixes, *(_NOT_PUBLIC4 if version == 4 else ())))
    for begin, end in ranges:
        if begin > first:
            return False
        first = max(first, end + 1)
        if first > last:
            return True
    return False


def _range(prefix: Prefix) -> tuple[int, int]:
    first = int.from_bytes(prefix.network, "big")
    return first, first | ((1 << (len(prefix.network) * 8 - prefix.length)) - 1)
