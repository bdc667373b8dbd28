# SPDX-License-Identifier: GPL-2.0
"""Run checks on Debian 12 machines with Debian's own kernels, and print the results of each kernel.

Exits 1 if anything is not as expected. The machines are emulated, so times are long and not benchmarks.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from typing import NamedTuple

from kernels.checks import CHECKS
from kernels.image import KERNELS, image, say
from kernels.machine import Failed, Machine, machine
from kernels.steps import Row
from rich import box
from rich.console import Console
from rich.table import Table

_EXAMPLES = """\
examples:
  sudo netns-lab/kernels/matrix
  sudo netns-lab/kernels/matrix --kernel 6.1 --check virtio_net veth
  sudo netns-lab/kernels/matrix --kernel 6.12 --check queues no_control --json
"""


class Result(NamedTuple):
    """One check on one kernel. ``failed``: why it could not be run, empty if it was. Time in seconds."""

    kernel: str
    check: str
    rows: list[Row]
    failed: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether everything was as expected."""
        return not self.failed and all(row.right for row in self.rows)


def main() -> int:
    """Run the checks; return 1 if one fails."""
    parser = argparse.ArgumentParser(
        prog="matrix", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", nargs="+", choices=KERNELS, default=list(KERNELS), help="default: all")
    parser.add_argument("--check", nargs="+", choices=CHECKS, default=list(CHECKS), help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results = []
    for kernel in arguments.kernel:
        for nic in dict.fromkeys(CHECKS[it].nic for it in arguments.check):
            checks = [it for it in arguments.check if CHECKS[it].nic == nic]
            try:
                with machine(image(kernel), nic) as made:
                    results += [_result(kernel, it, made) for it in checks]
            except Failed as error:
                results.append(Result(kernel, "boot", [], str(error), 0.0))
    _show(results, arguments.json)
    return 0 if all(it.right for it in results) else 1


def _result(kernel: str, check: str, made: Machine) -> Result:
    began = time.monotonic()
    rows: list[Row] = []
    failed = ""
    try:
        for row in CHECKS[check].run(made):
            say(f"{kernel} {check}: {row.what}: {row.found}{'' if row.right else f' (expected: {row.expected})'}")
            rows.append(row)
    except (Failed, OSError, ValueError, KeyError, StopIteration) as error:
        failed = f"{type(error).__name__}: {error}"
        say(f"{kernel} {check}: {failed}")
    return Result(kernel, check, rows, failed, time.monotonic() - began)


def _show(results: list[Result], as_json: bool) -> None:
    if as_json:
        rows = [[row._asdict() | {"right": row.right} for row in it.rows] for it in results]
        print(json.dumps([it._asdict() | {"rows": found} for it, found in zip(results, rows, strict=True)], indent=2))
        return
    table = Table("kernel", "check", "as expected", "seconds", "what was not", box=box.SIMPLE)
    for it in results:
        wrong = [f"{row.what}: {row.found}, not {row.expected}" for row in it.rows if not row.right]
        right = f"{len(it.rows) - len(wrong)} of {len(it.rows)}"
        wrong.append(it.failed.partition("\n")[0])
        table.add_row(it.kernel, it.check, right, f"{it.seconds:.0f}", "; ".join(filter(None, wrong[:3])) or "-")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
