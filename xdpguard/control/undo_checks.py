# SPDX-License-Identifier: GPL-2.0
"""Refuse an undo as the commands are refused that would have the same effect."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from xdpguard.control import safety
from xdpguard.control.restoring import Step, of
from xdpguard.policy.target import Port, Prefix
from xdpguard.store.database import Store


def check(store: Store, steps: Sequence[Step]) -> None:
    """Raise XdpguardError if a block, a closed port or a list that comes back, or an allow rule that goes, would cut
    off what the host needs.
    """
    blocks: dict[float | None, list[Prefix]] = defaultdict(list)
    for it in of(steps, "rules", mode="enforce", kind="block"):
        if it.want is not None and isinstance(it.target, Prefix):
            blocks[it.want["expires"]].append(it.target)
    for end, prefixes in blocks.items():
        safety.check_block(store, prefixes, None if end is None else end - time.time())
    changed = [(it, it.target) for it in of(steps, "rules", mode="enforce")]
    allowed = [
        target for it, target in changed if isinstance(target, Prefix) and it.key[1] == "allow" and _ends_earlier(it)
    ]
    if allowed:
        safety.check_disallow(store, allowed)
    closed = [it for it in of(steps, "rules", mode="enforce", kind="port") if it.want is not None]
    ports = [it.target for it in closed if isinstance(it.target, Port)]
    if ports:
        safety.check_ports(store, ports)
    forced = {it.key for it in of(steps, "lists") if it.want and it.want["forced"]}
    for it in of(steps, "list_entries", mode="enforce"):
        if it.want is not None and it.key not in forced:
            from xdpguard.lists.addresses import unpacked

            safety.check_list(store, it.key[1], unpacked(it.want["four"], it.want["six"]))


def _ends_earlier(it: Step) -> bool:
    if it.want is None or it.now is None:
        return it.want is None
    want, now = it.want["expires"], it.now["expires"]
    return want is not None and (now is None or want < now)
