# SPDX-License-Identifier: GPL-2.0
"""Maps: making, pinning, opening, reading and writing them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys.kernel.call import address, bpf, filled
from xdpguard.dataplane.sys.kernel.machine import possible_cpus

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_OBJ_PIN, _OBJ_GET, _MAP_FD_BY_ID, _OBJ_INFO = 6, 7, 14, 15
_MAP_LOOKUP_BATCH, _MAP_UPDATE_BATCH = 24, 26

MAP_HASH, MAP_ARRAY, MAP_PROGRAMS, MAP_PERCPU_ARRAY = 1, 2, 3, 6
MAP_LRU_HASH, MAP_LPM_TRIE, MAP_ARRAY_OF_MAPS = 9, 11, 12
MAP_MMAPABLE, MAP_INNER = 1 << 10, 1 << 12  # flags
_UPDATE_ANY = 0

_BATCH = 8192
_BATCH_ATTRIBUTE = struct.Struct("=QQQQIIQQ")


class MapInfo(NamedTuple):
    """``struct bpf_map_info``, the part that tells one layout from another. Sizes in octets."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str

    def like(self, other: MapInfo) -> bool:
        """Return whether one map can stand for the other: all but id and name is the same."""
        return (self.type, *self[2:6]) == (other.type, *other[2:6])


def create_map(kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str, inner: int = 0) -> int:
    """Make a map; return a file descriptor. ENOMEM when it is too large. ``inner``: pattern of those it will hold."""
    attribute = struct.pack("=6II16s", kind, key_size, value_size, entries, flags, inner, 0, name.encode()[:15])
    return bpf(_MAP_CREATE, bytearray(attribute))


def pin(path: str, fd: int) -> None:
    """Pin a map or program under the BPF file system."""
    name = filled(path.encode() + b"\0")
    bpf(_OBJ_PIN, bytearray(struct.pack("=QII", address(name), fd, 0)))


def open_pin(path: str) -> int:
    """Open what is pinned at ``path``; return a file descriptor."""
    name = filled(path.encode() + b"\0")
    return bpf(_OBJ_GET, bytearray(struct.pack("=QII", address(name), 0, 0)))


def pin_id(path: Path) -> int:
    """Return the kernel's id of a pinned map."""
    with opened(open_pin(str(path))) as descriptor:
        return map_info(descriptor).id


def map_by_id(map_id: int) -> int:
    """Return a file descriptor of a map."""
    return bpf(_MAP_FD_BY_ID, bytearray(struct.pack("=III", map_id, 0, 0)))


def map_info(fd: int) -> MapInfo:
    """Read a map's layout."""
    buffer = ctypes.create_string_buffer(88)
    bpf(_OBJ_INFO, bytearray(struct.pack("=IIQ", fd, len(buffer), address(buffer))))
    kind, number, key, value, entries, flags, name = struct.unpack_from("=6I16s", buffer)
    return MapInfo(kind, number, key, value, entries, flags, name.rstrip(b"\0").decode("ascii", "replace"))


def mapped(fd: int) -> mmap.mmap:
    """Map the values of an array made with MAP_MMAPABLE, end to end."""
    info = map_info(fd)
    return mmap.mmap(fd, info.max_entries * info.value_size)


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """Read one value of ``value_size`` octets (all CPUs of a per-CPU map); None when there is none."""
    keys, value = filled(key), ctypes.create_string_buffer(value_size)
    try:
        bpf(_MAP_LOOKUP, bytearray(struct.pack("=IIQQQ", fd, 0, address(keys), address(value), 0)))
    except FileNotFoundError:
        return None
    return value.raw


def sum_over_cpus(fd: int) -> int:
    """Read a per-CPU array of one 64-bit counter, added up."""
    raw = lookup(fd, bytes(4), 8 * possible_cpus())
    return 0 if raw is None else sum(memoryview(raw).cast("Q"))


def update(fd: int, key: bytes, value: bytes, flags: int = _UPDATE_ANY) -> None:
    """Write one entry. E2BIG or ENOSPC when the map is full."""
    keys, values = filled(key), filled(value)
    bpf(_MAP_UPDATE, bytearray(struct.pack("=IIQQQ", fd, 0, address(keys), address(values), flags)))


def delete(fd: int, key: bytes) -> bool:
    """Delete one entry; False when there was none."""
    keys = filled(key)
    try:
        bpf(_MAP_DELETE, bytearray(struct.pack("=IIQQQ", fd, 0, address(keys), 0, 0)))
    except FileNotFoundError:
        return False
    return True


def has_entries(fd: int, key_size: int) -> bool:
    """Return whether a hash map or a trie holds anything."""
    following = ctypes.create_string_buffer(key_size)
    try:
        bpf(_MAP_NEXT_KEY, bytearray(struct.pack("=IIQQ", fd, 0, 0, address(following))))
    except FileNotFoundError:
        return False
    return True


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Write ``count`` entries laid end to end. On an error the entries before it are written."""
    keys_at, values_at = filled(keys), filled(values)
    key_size, value_size = len(keys) // max(count, 1), len(values) // max(count, 1)
    done = 0
    while done < count:
        places = address(keys_at) + done * key_size, address(values_at) + done * value_size
        attribute = bytearray(_BATCH_ATTRIBUTE.pack(0, 0, *places, count - done, fd, _UPDATE_ANY, 0))
        bpf(_MAP_UPDATE_BATCH, attribute)
        done += _BATCH_ATTRIBUTE.unpack(attribute)[4]


def entries(fd: int, key_size: int, value_size: int, batch: int = _BATCH) -> tuple[bytes, bytes, int]:
    """Read a whole map: keys end to end, values end to end, and how many. ``batch``: entries a system call.

    The map may change meanwhile; an entry that stays is read once.
    """
    # A hash map's cursor is four octets, that of a trie or an array is a key.
    cursor = ctypes.create_string_buffer(max(key_size, 4))
    keys, values = bytearray(), bytearray()
    total, first = 0, True
    while True:
        key_buffer = ctypes.create_string_buffer(batch * key_size)
        value_buffer = ctypes.create_string_buffer(batch * value_size)
        places = 0 if first else address(cursor), address(cursor), address(key_buffer), address(value_buffer)
        attribute = bytearray(_BATCH_ATTRIBUTE.pack(*places, batch, fd, 0, 0))
        last = False
        try:
            bpf(_MAP_LOOKUP_BATCH, attribute)
        except FileNotFoundError:
            last = True
        except OSError as error:
            # One bucket of a hash map may hold more than the buffer.
            if error.errno != errno.ENOSPC:
                raise
            batch *= 2
            continue
        count = _BATCH_ATTRIBUTE.unpack(attribute)[4]
        keys += key_buffer.raw[: count * key_size]
        values += value_buffer.raw[: count * value_size]
        total += count
        first = False
        if last:
            return bytes(keys), bytes(values), total


def pairs(fd: int, key_size: int, value_size: int) -> dict[bytes, bytes]:
    """Read a whole map as its values by key."""
    keys, values, count = entries(fd, key_size, value_size)
    places = zip(range(0, count * key_size, key_size), range(0, count * value_size, value_size), strict=True)
    return {keys[key : key + key_size]: values[value : value + value_size] for key, value in places}
