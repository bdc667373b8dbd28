# SPDX-License-Identifier: GPL-2.0
"""A folder of frames for the packet fuzzer: captures (pcap, pcapng), and raw frames, a file each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from support.mutation import LONGEST
from xdpguard.capture.reader import Capture
from xdpguard.errors import UsageError


def frames_of(folder: Path) -> list[bytes]:
    """The frames that a folder holds, each once."""
    return list(dict.fromkeys(frame[:LONGEST] for path in sorted(folder.iterdir()) for frame in _frames(path)))


def keep(folder: Path, frame: bytes, prefix: str = "") -> None:
    """Put a raw frame into a folder."""
    (folder / f"{prefix}{hashlib.sha256(frame).hexdigest()[:16]}.frame").write_bytes(frame)


def _frames(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        try:
            yield from (frame.data for frame in Capture(path.name, file))
            return
        except UsageError:
            pass
    yield path.read_bytes().ljust(14, b"\0")
