# SPDX-License-Identifier: GPL-2.0
"""Instructions that the kernel's verifier processes for each program, by build variant and compiler."""

from __future__ import annotations

import argparse
import json
import platform
import sys

from rich import box
from rich.console import Console
from rich.table import Table
from verified import BUILTIN, CLANGS, MOST, TOO_LARGE, VARIANTS, Figure, figures

_COMPILERS = (BUILTIN, *CLANGS)


def show(found: list[Figure]) -> None:
    """Print the table: a line per program and variant, a column per compiler."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    heads = [f"{name}, at most {MOST[name]:,}" for name in _COMPILERS]
    table = Table("program", "variant", *heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    lines: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in found:
        lines.setdefault((figure.program, figure.variant), {})[figure.compiler] = figure
    for (program, variant), cells in sorted(lines.items(), key=lambda it: it[0][0]):
        table.add_row(program, variant, *(_text(cells[name]) for name in _COMPILERS))
    console.print(table)
    console.print(f"instructions verified, of {TOO_LARGE:,}; Linux {platform.release()}")


def _text(figure: Figure) -> str:
    count = "too large" if figure.instructions == TOO_LARGE else f"{figure.instructions:,}"
    return count if figure.held else f"{count} (not reached)"


def main() -> int:
    """Compile and verify; with --json print numbers for machines. Return 1 if a program is over its limit."""
    parser = argparse.ArgumentParser(prog="verifier", description=__doc__)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=f"some of: {', '.join(VARIANTS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    unknown = [name for name in given.variants if name not in VARIANTS]
    if unknown:
        parser.error(f"no variant {', '.join(unknown)}; there are: {', '.join(VARIANTS)}")
    found = [figure for variant in given.variants or VARIANTS for figure in figures(variant, _COMPILERS)]
    if given.json:
        sys.stdout.write(json.dumps({"limits": MOST, "figures": [it._asdict() for it in found]}) + "\n")
    else:
        show(found)
    return 0 if all(it.held for it in found) else 1


if __name__ == "__main__":
    sys.exit(main())
