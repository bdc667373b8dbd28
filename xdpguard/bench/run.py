# SPDX-License-Identifier: GPL-2.0
"""One run of the bench, from an empty machine to the results."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

from xdpguard.bench import costs, filter_rates, filters, loading, machine, rates
from xdpguard.bench.packets import SOURCES, Addresses
from xdpguard.bench.results import Results
from xdpguard.bench.workspace import Workspace
from xdpguard.dataplane.build.compiler import import_bcc, require_headers
from xdpguard.errors import XdpguardError

Part = Literal["costs", "rates", "loading", "filters"]
PARTS: tuple[Part, ...] = get_args(Part)
ENTRIES, QUICK_ENTRIES = (0, 1_000, 100_000, 1_000_000), (0, 1_000)


def run(entries: Sequence[int], parts: Collection[Part], quick: bool, say: Callable[[str], None]) -> Results:
    """Measure with these numbers of list entries; rates and loading times use only the largest one."""
    import_bcc()
    require_headers()
    counts = sorted(set(entries))
    largest = max(counts[-1], 1)
    results = Results(machine.describe(), machine.versions(), quick)
    with Workspace(say) as workspace:
        say("drawing addresses")
        addresses = Addresses(max(largest + loading.changed(largest), SOURCES))
        try:
            if "costs" in parts:
                costs.measure(workspace, addresses, counts, results)
            if "rates" in parts:
                rates.measure(workspace, addresses, largest, results)
            if "filters" in parts:
                filters.measure(workspace, addresses, results)
                filter_rates.measure(workspace, addresses, results)
            if "loading" in parts:  # stays attached
                loading.measure(workspace, addresses, largest, results)
        except subprocess.CalledProcessError as error:
            raise XdpguardError(
                f"{' '.join(error.cmd[:6])} failed: {(error.stderr or '').strip() or error}",
                "everything was cleaned up; run again with -v for its complete output",
                str(error.stderr or ""),
            ) from error
    return results
