# SPDX-License-Identifier: GPL-2.0
"""Programs: loading them, telling one from another, hanging them on hooks."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from xdpguard.dataplane.sys.kernel.call import address, bpf, filled
from xdpguard.dataplane.sys.kernel.maps import update

_PROG_LOAD, _PROG_ATTACH, _PROG_NEXT_ID, _PROG_FD_BY_ID, _OBJ_INFO = 5, 8, 11, 13, 15
_PROG_QUERY, _RAW_TRACEPOINT_OPEN = 16, 17

PROG_TYPE_XDP = 6
TCX_INGRESS = 46  # enum bpf_attach_type; Linux 6.6
PROG_FLAG_XDP_HAS_FRAGS = 1 << 5


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


def load_xdp(instructions: bytes, name: str, flags: int = 0, attach_type: int = 0) -> int:
    """Load an XDP program under the GPL; return its file descriptor. OSError when the verifier refuses it.

    ``attach_type`` matters to tail calls only: programs that call each other were loaded with the same one.
    """
    return load(PROG_TYPE_XDP, instructions, name, flags, attach_type)


def load(kind: int, instructions: bytes, name: str, flags: int = 0, attach_type: int = 0) -> int:
    """Load a program of type ``kind`` (enum bpf_prog_type) as `load_xdp` does one for XDP."""
    code = filled(instructions)
    licence = filled(b"GPL\0")
    sizes = kind, len(instructions) // 8, address(code), address(licence)
    attribute = struct.pack("=IIQQIIQII16sII", *sizes, 0, 0, 0, 0, flags, name.encode()[:15], 0, attach_type)
    return bpf(_PROG_LOAD, bytearray(attribute))


def program_by_id(program_id: int) -> int:
    """Return a file descriptor of a loaded program."""
    return bpf(_PROG_FD_BY_ID, bytearray(struct.pack("=III", program_id, 0, 0)))


def program_info(fd: int) -> ProgramInfo:
    """Read a program's identity and map ids."""
    ids = (ctypes.c_uint32 * 64)()
    buffer = ctypes.create_string_buffer(232)
    struct.pack_into("=IQ", buffer, 52, len(ids), ctypes.addressof(ids))
    bpf(_OBJ_INFO, bytearray(struct.pack("=IIQ", fd, len(buffer), address(buffer))))
    kind, number, tag = struct.unpack_from("=II8s", buffer)
    count, _, name = struct.unpack_from("=IQ16s", buffer, 52)
    text = name.rstrip(b"\0").decode("ascii", "replace")
    run_time, runs, missed, verified = struct.unpack_from("=QQQI", buffer, 192)
    return ProgramInfo(
        kind, number, tag.hex(), text, tuple(ids[: min(count, len(ids))]), verified, run_time, runs, missed
    )


def next_program(program_id: int) -> int | None:
    """Return the id of the loaded program after that one; of the first, after 0; None behind the last."""
    attribute = bytearray(struct.pack("=III", program_id, 0, 0))
    try:
        bpf(_PROG_NEXT_ID, attribute)
    except FileNotFoundError:
        return None
    return int(struct.unpack_from("=I", attribute, 4)[0])


def attach_program(attach_type: int, target: int, program: int) -> None:
    """Hang a program on a hook; ``target`` as in `attached_programs`. It stays there as long as the interface does."""
    bpf(_PROG_ATTACH, bytearray(struct.pack("=IIIIIIQ", target, program, attach_type, 0, 0, 0, 0)))


def attached_programs(attach_type: int, target: int) -> int:
    """Return how many programs hang on a hook; 0 where the kernel does not know the hook.

    ``target``: the index of an interface of this thread's network namespace, or a descriptor, as the hook wants it.
    """
    attribute = bytearray(struct.pack("=IIIIQIIQQQQ", target, attach_type, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    try:
        bpf(_PROG_QUERY, attribute)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOSYS):
            return 0
        raise
    return int(struct.unpack_from("=I", attribute, 24)[0])


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Attach a program to a tracepoint, to be given its arguments as they are; return a file descriptor, whose end
    is the end of it.
    """
    text = filled(name.encode() + b"\0")
    return bpf(_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QII", address(text), program, 0)))


def put_program(fd: int, place: int, program: int) -> None:
    """Put a program into a map of programs, and close its descriptor: the map holds it."""
    try:
        update(fd, place.to_bytes(4, "little"), program.to_bytes(4, "little"))
    finally:
        os.close(program)
