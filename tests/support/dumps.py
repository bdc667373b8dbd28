# SPDX-License-Identifier: GPL-2.0
"""Everything an instance has pinned, to see whether a command changed any of it."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins

_BATCH = 8192
_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_RING, _ARRAY_OF_MAPS, _PROGRAMS, _PERCPU = 27, 12, 3, kernel.MAP_PERCPU_ARRAY


def dump(pins: Pins) -> dict[str, str]:
    """A digest of each pinned map by its path, the index of the lists included."""
    return {str(path): _digest(path) for path in sorted(pins.names())}


def _digest(path: Path) -> str:
    descriptor = kernel.open_pin(str(path))
    try:
        info = kernel.map_info(descriptor)
        if info.type == _RING:
            # Where its writers are: the first page is the reader's, the second one theirs.
            with mmap.mmap(descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE) as page:
                content = page[:8]
        elif info.type == _PERCPU:
            width = info.value_size + 7 & ~7
            content = kernel.lookup(descriptor, bytes(4), width * kernel.possible_cpus()) or b""
        elif info.type in (_ARRAY_OF_MAPS, _PROGRAMS):
            content = kernel.lookup(descriptor, bytes(4), 4) or b""
        elif info.type == kernel.MAP_ARRAY and info.flags & _MMAPABLE:
            with mmap.mmap(descriptor, (info.value_size + 7 & ~7) * info.max_entries, prot=mmap.PROT_READ) as whole:
                return f"{info.id} {hashlib.sha256(whole).hexdigest()}"
        else:
            # The buffers are as large as the batch, whatever there is.
            batch = min(info.max_entries, _BATCH)
            keys, values, count = kernel.entries(descriptor, info.key_size, info.value_size, batch)
            if info.type == kernel.MAP_ARRAY:
                return f"{info.id} {hashlib.sha256(values).hexdigest()}"
            pairs = [
                keys[i * info.key_size : (i + 1) * info.key_size]
                + values[i * info.value_size : (i + 1) * info.value_size]
                for i in range(count)
            ]
            content = b"".join(sorted(pairs))
        return f"{info.id} {hashlib.sha256(content).hexdigest()}"
    finally:
        os.close(descriptor)
