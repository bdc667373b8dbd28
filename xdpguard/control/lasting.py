# SPDX-License-Identifier: GPL-2.0
"""What is told of the ends that entries of a list have, when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from xdpguard.units import moment

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Parsed


def notes(parsed: Parsed, sets: Iterable[AddressSet], shadow: bool, dry_run: bool) -> Iterator[str]:
    """Yield a note on the entries that have an end, if there are any. ``sets``: the list, and those in force beside it,
    which share the kernel's numbers of ends.
    """
    if not parsed.ending:
        return
    import numpy as np

    from xdpguard.dataplane.tables.endings import step

    verb = f"{'will stop' if dry_run else 'stops'} {'counting' if shadow else 'blocking'}"
    size = step(np.concatenate([np.empty(0, np.uint32), *(ends for its in sets for ends in its.ends or ())]))
    late = f", or up to {size} s later, as there are more ends than the kernel tells apart" if size > 1 else ""
    if parsed.ending == 1:
        yield f"1 entry has an end ({moment(parsed.first_end)}), at which it {verb}{late}"
        return
    first, last = moment(parsed.first_end), moment(parsed.last_end)
    yield f"{parsed.ending:,} entries have an end ({first} to {last}); each {verb} at its own{late}"
