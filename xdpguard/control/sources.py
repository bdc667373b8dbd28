# SPDX-License-Identifier: GPL-2.0
"""Read a list and sort it, without the store: done before the instance's lock is taken, since a pipe may be slow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.lists.formats import Parsed, Request


class Source(NamedTuple):
    """A list that was read and sorted."""

    file: str  # absolute path, or URL; empty for standard input
    stamp: str
    parsed: Parsed
    entries: AddressSet
    duplicates: int


def read_source(
    path: Path,
    strict: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
    request: Request | None = None,
) -> Source:
    """Read a list from a file, as requested. Raise UsageError if it is not one."""
    from xdpguard.lists.formats import read_file

    on_step(f"reading {path}")
    mark = stamp(path, request)
    return _sorted_out(str(path.absolute()), mark, read_file(path, request), strict, on_step)


def read_stream(
    label: str,
    stream: IO[bytes],
    strict: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
    request: Request | None = None,
    origin: str = "",
) -> Source:
    """Read a list from a stream, as requested. Raise UsageError if it is not one. ``origin``: the URL it came from."""
    from xdpguard.lists.formats import read

    on_step(f"reading {label}")
    return _sorted_out(origin, "", read(label, stream, request), strict, on_step)


def _sorted_out(file: str, mark: str, parsed: Parsed, strict: bool, on_step: Callable[[str], None]) -> Source:
    from xdpguard.lists.addresses import aggregate

    label = file or "standard input"
    if strict and parsed.skipped:
        fault = parsed.faults[0]
        raise UsageError(
            f"{label}:{fault.line}: {fault.text!r}: {fault.why}"
            + (f" (and {parsed.skipped - 1:,} more)" if parsed.skipped > 1 else ""),
            "nothing was changed; correct the file, or omit --strict",
        )
    on_step("sorting")
    try:
        entries, twice = aggregate(
            parsed.first4, parsed.last4, parsed.high6, parsed.low6, parsed.length6, parsed.ranges6, parsed.ends
        )
    except UsageError as error:
        raise UsageError(f"{label}: {error}", error.remedy) from error
    return Source(file, mark, parsed, entries, twice)


def stamp(path: Path, request: Request | None = None) -> str:
    """Return a mark that changes whenever a file does, or how it is read; empty if the file cannot be examined."""
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        mark = f":{request.mark}" if request and request.mark else ""
        return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}{mark}"
    return ""
