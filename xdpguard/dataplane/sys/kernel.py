# SPDX-License-Identifier: GPL-2.0
"""The bpf(2) system call: maps, programs, pins. Raises OSError as the kernel answers.

Talking to the kernel directly keeps `block`, `stats` and the like free of bcc, and lets a million entries pass as
one buffer. Layouts are those of ``union bpf_attr`` in include/uapi/linux/bpf.h; file descriptors are plain integers
owned by the caller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
from pathlib import Path
from typing import NamedTuple

# The number of the system call, by machine (arch/*/include/generated/uapi/asm/unistd*.h).
_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_PROG_LOAD, _OBJ_PIN, _OBJ_GET, _PROG_ATTACH = 5, 6, 7, 8
_PROG_TEST_RUN, _PROG_NEXT_ID, _PROG_FD_BY_ID, _MAP_FD_BY_ID, _OBJ_INFO = 10, 11, 13, 14, 15
_PROG_QUERY, _RAW_TRACEPOINT_OPEN = 16, 17
_MAP_LOOKUP_BATCH, _MAP_UPDATE_BATCH, _MAP_DELETE_BATCH = 24, 26, 27

PROG_TYPE_XDP = 6
TCX_INGRESS = 46  # enum bpf_attach_type; Linux 6.6
PROG_FLAG_XDP_HAS_FRAGS = 1 << 5
TEST_RUN_LIVE_FRAMES = 1 << 1

MAP_HASH, MAP_ARRAY, MAP_PERCPU_ARRAY, MAP_LRU_HASH, MAP_LPM_TRIE, MAP_ARRAY_OF_MAPS = 1, 2, 6, 9, 11, 12
MAP_MMAPABLE, MAP_INNER = 1 << 10, 1 << 12  # flags
UPDATE_ANY = 0
UPDATE_NOEXIST = 1

_BATCH = 8192

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class MapInfo(NamedTuple):
    """``struct bpf_map_info``, the part that tells one layout from another. Sizes in octets."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class ProgramInfo(NamedTuple):
    """``struct bpf_prog_info``: identity, the ids of the maps the program uses, how many instructions the verifier
    went through, of the million it allows (0 before Linux 5.16, which does not tell), how long and how often it ran
    while the kernel kept statistics, and how often it was left out because one was running on that CPU already.
    """

    type: int
    id: int
    tag: str
    name: str
    map_ids: tuple[int, ...]
    verified: int
    run_time: int  # ns
    runs: int
    missed: int


class TestRun(NamedTuple):
    """What BPF_PROG_TEST_RUN answered: the verdict, the frame afterwards, mean ns a run."""

    verdict: int
    data: bytes
    duration: int


def _bpf(command: int, attribute: bytearray) -> int:
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known for {platform.machine()}")
    buffer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
    result = int(_libc.syscall(ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(attribute))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _buffer(data: bytes | bytearray) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(bytes(data), len(data))


def release() -> tuple[int, int] | None:
    """The running kernel's version, major and minor; None when its name does not begin with one."""
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else None


def boot_id() -> str:
    """Names the present boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def possible_cpus() -> int:
    """Number of possible CPUs: one more than the highest id, the size of every per-CPU value."""
    return _cpus("possible")


def reads_locked() -> bool:
    """Whether the kernel keeps programs from reading its memory (lockdown=confidentiality)."""
    try:
        return "[confidentiality]" in Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return False


def present_cpus() -> int:
    """Number of CPUs plugged in: one more than the highest id. Often far fewer than possible ones."""
    return _cpus("present")


def _cpus(which: str) -> int:
    text = Path(f"/sys/devices/system/cpu/{which}").read_text(encoding="ascii")
    return int(text.strip().replace(",", "-").split("-")[-1]) + 1


def pin(path: str, fd: int) -> None:
    """Pins a map or program under the BPF file system."""
    name = _buffer(path.encode() + b"\0")
    _bpf(_OBJ_PIN, bytearray(struct.pack("=QII", _address(name), fd, 0)))


def create_map(kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str, inner: int = 0) -> int:
    """Makes a map; returns a file descriptor. ENOMEM when it is too large. ``inner``: pattern of those it will hold."""
    attribute = struct.pack("=6II16s", kind, key_size, value_size, entries, flags, inner, 0, name.encode()[:15])
    return _bpf(_MAP_CREATE, bytearray(attribute))


def map_by_id(map_id: int) -> int:
    """Returns a file descriptor of a map."""
    return _bpf(_MAP_FD_BY_ID, bytearray(struct.pack("=III", map_id, 0, 0)))


def pin_id(path: Path) -> int:
    """The kernel's id of a pinned map."""
    descriptor = open_pin(str(path))
    try:
        return map_info(descriptor).id
    finally:
        os.close(descriptor)


def open_pin(path: str) -> int:
    """Opens what is pinned at ``path``; returns a file descriptor."""
    name = _buffer(path.encode() + b"\0")
    return _bpf(_OBJ_GET, bytearray(struct.pack("=QII", _address(name), 0, 0)))


def program_by_id(program_id: int) -> int:
    """Returns a file descriptor of a loaded program."""
    return _bpf(_PROG_FD_BY_ID, bytearray(struct.pack("=III", program_id, 0, 0)))


def next_program(program_id: int) -> int | None:
    """The id of the loaded program after that one; of the first, after 0; None behind the last."""
    attribute = bytearray(struct.pack("=III", program_id, 0, 0))
    try:
        _bpf(_PROG_NEXT_ID, attribute)
    except FileNotFoundError:
        return None
    return int(struct.unpack_from("=I", attribute, 4)[0])


def attach_program(attach_type: int, target: int, program: int) -> None:
    """Hangs a program on a hook; ``target`` as in `attached_programs`. It stays there as long as the interface does."""
    _bpf(_PROG_ATTACH, bytearray(struct.pack("=IIIIIIQ", target, program, attach_type, 0, 0, 0, 0)))


def attached_programs(attach_type: int, target: int) -> int:
    """How many programs hang on a hook. ``target``: the index of an interface of this thread's network namespace, or
    a descriptor, as the hook wants it. 0 where the kernel does not know the hook.
    """
    attribute = bytearray(struct.pack("=IIIIQIIQQQQ", target, attach_type, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    try:
        _bpf(_PROG_QUERY, attribute)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOSYS):
            return 0
        raise
    return int(struct.unpack_from("=I", attribute, 24)[0])


def map_info(fd: int) -> MapInfo:
    """Reads a map's layout."""
    buffer = ctypes.create_string_buffer(88)
    _bpf(_OBJ_INFO, bytearray(struct.pack("=IIQ", fd, len(buffer), _address(buffer))))
    kind, number, key, value, entries, flags, name = struct.unpack_from("=6I16s", buffer)
    return MapInfo(kind, number, key, value, entries, flags, name.rstrip(b"\0").decode("ascii", "replace"))


def program_info(fd: int) -> ProgramInfo:
    """Reads a program's identity and map ids."""
    ids = (ctypes.c_uint32 * 64)()
    buffer = ctypes.create_string_buffer(232)
    struct.pack_into("=IQ", buffer, 52, len(ids), ctypes.addressof(ids))
    _bpf(_OBJ_INFO, bytearray(struct.pack("=IIQ", fd, len(buffer), _address(buffer))))
    kind, number, tag = struct.unpack_from("=II8s", buffer)
    count, _, name = struct.unpack_from("=IQ16s", buffer, 52)
    text = name.rstrip(b"\0").decode("ascii", "replace")
    run_time, runs, missed, verified = struct.unpack_from("=QQQI", buffer, 192)
    return ProgramInfo(
        kind, number, tag.hex(), text, tuple(ids[: min(count, len(ids))]), verified, run_time, runs, missed
    )


def load_xdp(instructions: bytes, name: str, flags: int = 0, attach_type: int = 0) -> int:
    """Loads an XDP program under the GPL; returns its file descriptor. OSError when the verifier refuses it.

    ``attach_type`` matters to tail calls only: programs that call each other were loaded with the same one.
    """
    return load(PROG_TYPE_XDP, instructions, name, flags, attach_type)


def load(kind: int, instructions: bytes, name: str, flags: int = 0, attach_type: int = 0) -> int:
    """Loads a program of type ``kind`` (enum bpf_prog_type) as `load_xdp` does one for XDP."""
    code = _buffer(instructions)
    licence = _buffer(b"GPL\0")
    attribute = struct.pack(
        "=IIQQIIQII16sII",
        kind,
        len(instructions) // 8,
        _address(code),
        _address(licence),
        0,
        0,
        0,
        0,
        flags,
        name.encode()[:15],
        0,
        attach_type,
    )
    return _bpf(_PROG_LOAD, bytearray(attribute))


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Attaches a program to a tracepoint, to be given its arguments as they are; returns a file descriptor, whose end
    is the end of it.
    """
    text = _buffer(name.encode() + b"\0")
    return _bpf(_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QII", _address(text), program, 0)))


def put_program(fd: int, place: int, program: int) -> None:
    """Puts a program into a map of programs, and closes its descriptor: the map holds it."""
    try:
        update(fd, place.to_bytes(4, "little"), program.to_bytes(4, "little"))
    finally:
        os.close(program)


def test_run(fd: int, data: bytes, repeat: int = 1, ifindex: int = 0, live_batch: int = 0) -> TestRun:
    """Runs a program on one frame (BPF_PROG_TEST_RUN).

    ``repeat`` runs it that often and gives the mean duration. ``ifindex`` is the interface the frame seems to come
    from. ``live_batch`` > 0 sends real frames where the program redirects them, that many at once.
    """
    source = _buffer(data)
    target = ctypes.create_string_buffer(len(data) + 512)
    context = _buffer(struct.pack("=6I", 0, len(data), 0, ifindex, 0, 0))
    context_size = 24 if ifindex else 0
    flags = TEST_RUN_LIVE_FRAMES if live_batch else 0
    attribute = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQIII",
            fd,
            0,
            len(data),
            0 if live_batch else len(target),
            _address(source),
            0 if live_batch else _address(target),
            repeat,
            0,
            context_size,
            0,
            _address(context) if ifindex else 0,
            0,
            flags,
            0,
            live_batch,
        )
    )
    _bpf(_PROG_TEST_RUN, attribute)
    verdict, _, size = struct.unpack_from("=III", attribute, 4)
    duration = struct.unpack_from("=I", attribute, 36)[0]
    return TestRun(verdict, b"" if live_batch else target.raw[:size], duration)


class Runner:
    """Runs a program on one frame after the other (BPF_PROG_TEST_RUN), with as little as possible between the calls.

    Running one frame often in one call is no way to do it: there the kernel first prepares for speed, which takes
    milliseconds.
    """

    LONGEST = 3072  # octets of a frame; the kernel's buffer is a page, less head and tail room

    def __init__(self, fd: int, ifindex: int = 0) -> None:
        """``ifindex``: as in `test_run`."""
        self._frame = memoryview(bytearray(self.LONGEST))
        self._context = bytearray(struct.pack("=6I", 0, 0, 0, ifindex, 0, 0))
        buffers = [(ctypes.c_char * len(it)).from_buffer(it) for it in (self._frame, self._context)]
        frame, context = map(_address, buffers)
        at, size = (context, len(self._context)) if ifindex else (0, 0)
        self._attribute = bytearray(
            struct.pack("=IIIIQQIIIIQQIII", fd, 0, 0, 0, frame, 0, 1, 0, size, 0, at, 0, 0, 0, 0)
        )
        number = _SYSCALL_NUMBERS.get(platform.machine(), -1)
        attribute = (ctypes.c_char * len(self._attribute)).from_buffer(self._attribute)
        self._arguments = (
            ctypes.c_long(number),
            ctypes.c_int(_PROG_TEST_RUN),
            attribute,
            ctypes.c_uint(len(self._attribute)),
        )
        self._sizes = struct.Struct("=II")

    def run(self, frame: bytes | memoryview) -> None:
        """Runs the program on a frame of 14 to LONGEST octets."""
        length = len(frame)
        self._frame[:length] = frame
        self._sizes.pack_into(self._attribute, 8, length, 0)  # the kernel has written the second one
        self._sizes.pack_into(self._context, 0, 0, length)
        if _libc.syscall(*self._arguments) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """Reads one value of ``value_size`` octets (all CPUs of a per-CPU map); None when there is none."""
    keys, value = _buffer(key), ctypes.create_string_buffer(value_size)
    try:
        _bpf(_MAP_LOOKUP, bytearray(struct.pack("=IIQQQ", fd, 0, _address(keys), _address(value), 0)))
    except FileNotFoundError:
        return None
    return value.raw


def update(fd: int, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
    """Writes one entry. E2BIG or ENOSPC when the map is full."""
    keys, values = _buffer(key), _buffer(value)
    _bpf(_MAP_UPDATE, bytearray(struct.pack("=IIQQQ", fd, 0, _address(keys), _address(values), flags)))


def delete(fd: int, key: bytes) -> bool:
    """Deletes one entry; False when there was none."""
    keys = _buffer(key)
    try:
        _bpf(_MAP_DELETE, bytearray(struct.pack("=IIQQQ", fd, 0, _address(keys), 0, 0)))
    except FileNotFoundError:
        return False
    return True


def has_entries(fd: int, key_size: int) -> bool:
    """Whether a hash map or a trie holds anything."""
    following = ctypes.create_string_buffer(key_size)
    try:
        _bpf(_MAP_NEXT_KEY, bytearray(struct.pack("=IIQQ", fd, 0, 0, _address(following))))
    except FileNotFoundError:
        return False
    return True


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Writes ``count`` entries laid end to end. On an error the entries before it are written."""
    keys_at, values_at = _buffer(keys), _buffer(values)
    key_size, value_size = len(keys) // max(count, 1), len(values) // max(count, 1)
    done = 0
    while done < count:
        attribute = bytearray(
            struct.pack(
                "=QQQQIIQQ",
                0,
                0,
                _address(keys_at) + done * key_size,
                _address(values_at) + done * value_size,
                count - done,
                fd,
                UPDATE_ANY,
                0,
            )
        )
        _bpf(_MAP_UPDATE_BATCH, attribute)
        done += struct.unpack_from("=I", attribute, 32)[0]


def entries(fd: int, key_size: int, value_size: int, batch: int = _BATCH) -> tuple[bytes, bytes, int]:
    """Reads a whole map: keys end to end, values end to end, and how many. ``batch``: entries a system call.

    The map may change meanwhile; an entry that stays is read once.
    """
    # A hash map's cursor is four octets, that of a trie or an array is a key.
    cursor = ctypes.create_string_buffer(max(key_size, 4))
    keys, values = bytearray(), bytearray()
    total, first = 0, True
    while True:
        key_buffer = ctypes.create_string_buffer(batch * key_size)
        value_buffer = ctypes.create_string_buffer(batch * value_size)
        attribute = bytearray(
            struct.pack(
                "=QQQQIIQQ",
                0 if first else _address(cursor),
                _address(cursor),
                _address(key_buffer),
                _address(value_buffer),
                batch,
                fd,
                0,
                0,
            )
        )
        last = False
        try:
            _bpf(_MAP_LOOKUP_BATCH, attribute)
        except FileNotFoundError:
            last = True
        except OSError as error:
            # One bucket of a hash map may hold more than the buffer.
            if error.errno != errno.ENOSPC:
                raise
            batch *= 2
            continue
        count = struct.unpack_from("=I", attribute, 32)[0]
        keys += key_buffer.raw[: count * key_size]
        values += value_buffer.raw[: count * value_size]
        total += count
        first = False
        if last:
            return bytes(keys), bytes(values), total
