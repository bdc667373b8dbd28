# SPDX-License-Identifier: GPL-2.0
"""Joins bpf/ into one text, in the order of the ``#include "..."`` lines of xdpguard.c, with the assertions behind it.

bcc rewrites map methods only in the main text, so every file of ours is put there, with ``#line`` in front: clang and
the verifier then name the right file and line.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from xdpguard.dataplane.sys.source import source_folder

_INCLUDE = re.compile(r'^#include "([^"]+)"')


@functools.cache
def bundle(folder: Path | None = None, main: str = "xdpguard.c") -> str:
    """Return the one text, UTF-8, for the given main file. A ``.def`` file is put in as often as it is named."""
    # Here, because commands that compile nothing import this module as well.
    from xdpguard.dataplane.build.assertions import assertions

    root = folder or source_folder()
    return f'{_expand(root, root / main, set())}\n#line 1 "assertions.py"\n{assertions(main)}'


def _expand(root: Path, path: Path, seen: set[Path]) -> str:
    name = f"bpf/{path.relative_to(root).as_posix()}"
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
            continue
        included = (path.parent / match[1]).resolve()
        if included in seen and included.suffix != ".def":
            lines.append("")
            continue
        seen.add(included)
        lines += [_expand(root, included, seen), f'#line {number + 1} "{name}"']
    return "\n".join(lines)
