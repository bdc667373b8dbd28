# SPDX-License-Identifier: GPL-2.0
"""Mutations of valid inputs through every parser of what comes from outside: none raises, hangs or eats memory.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/parser_fuzz.py --seconds 300

A refusal is the parser's own error; any other exception, 5 s of CPU time for one input, or 500 MB are findings, each
place of the source once, with the input that shows it. `--only NAME` takes one parser; `--list` names them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from support.parser_fuzz import run
from support.parsers import targets


def main() -> int:
    """Fuzz; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations (default: the time)")
    parser.add_argument("--begin", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="a parser; may be given several times")
    parser.add_argument("--list", action="store_true", help="name the parsers")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that show a finding")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [its for its in targets(Path(folder)) if not asked.only or its.name in asked.only]
        if asked.list or not chosen:
            print("\n".join(its.name for its in chosen or targets(Path(folder))))
            return 0 if asked.list else 2
        print(f"seed {asked.seed}", flush=True)
        result = run(chosen, asked.seconds, asked.seed, asked.begin)
    for name, count in sorted(result.inputs.items()):
        print(f"{name}: {count:,} inputs, {result.accepted[name]:,} accepted")
    for its in result.findings:
        shown = its.data if len(its.data) <= 200 else its.data[:200] + b"..."
        print(f"\n{its.target}: {its.what} at {its.place or 'the input'}: {shown!r}\n{its.trace}")
        if asked.keep:
            (asked.keep / f"{hashlib.sha256(its.data).hexdigest()[:16]}.input").write_bytes(its.data)
    print(f"{result.inputs.total():,} inputs, {len(result.findings)} findings")
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
