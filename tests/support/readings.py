# SPDX-License-Identifier: GPL-2.0
"""Files of lists, and what each must become."""

from __future__ import annotations

import io
import ipaddress
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.lists.addresses import aggregate
from xdpguard.lists.formats import Parsed, Request, read

NOW = 1_795_000_000.0  # 2026-11-18


class Case(NamedTuple):
    """A file, and what it must become: prefixes (None: refused), and words of a note, the reading or the refusal."""

    text: str | bytes
    prefixes: str | None
    says: str = ""
    request: Request = Request()


def load(case: Case) -> Parsed:
    """What is read; refused with UsageError."""
    raw = case.text.encode() if isinstance(case.text, str) else case.text
    return read("list", io.BytesIO(raw), case.request._replace(now=NOW))


def prefixes(found: Parsed) -> list[str]:
    """The prefixes of a list as text."""
    made, _ = aggregate(found.first4, found.last4, found.high6, found.low6, found.length6, found.ranges6)
    four = [str(made.prefix(4, at)) for at in range(made.network4.size)]
    return four + [str(made.prefix(6, at)) for at in range(made.high6.size)]


def ends(found: Parsed) -> dict[str, int]:
    """The end of each prefix of a list: Unix time, 0 for none."""
    columns = (found.first4, found.last4, found.high6, found.low6, found.length6)
    made, _ = aggregate(*columns, found.ranges6, found.ends)
    held = {str(made.prefix(4, at)): int(end) for at, end in enumerate(made.ends4)}
    return held | {str(made.prefix(6, at)): int(end) for at, end in enumerate(made.ends6)}


def merged(texts: str) -> list[str]:
    """Prefixes as `prefixes` returns them."""
    nets = [ipaddress.ip_network(text) for text in texts.split()]
    found: list[str] = []
    for version in (4, 6):
        kept = ipaddress.collapse_addresses(net for net in nets if net.version == version)  # type: ignore[type-var]
        found.extend(str(net).removesuffix("/32" if version == 4 else "/128") for net in kept)
    return found


def said(found: Parsed) -> str:
    """All that is told about a list."""
    return " | ".join([found.reading, *found.notes, *(fault.why for fault in found.faults)])


def check(case: Case) -> None:
    """Reads a file, which must become what the case says."""
    try:
        found = load(case)
    except UsageError as error:
        assert case.prefixes is None, error
        assert case.says in f"{error}; {error.remedy}"
        assert error.remedy
        return
    assert case.prefixes is not None, (prefixes(found), said(found))
    assert prefixes(found) == merged(case.prefixes)
    assert case.says in said(found)
