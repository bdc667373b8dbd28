# SPDX-License-Identifier: GPL-2.0
"""The bpf(2) system call itself, and buffers for it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

# The number of the system call, by machine (arch/*/include/generated/uapi/asm/unistd*.h).
_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def prepared(command: int, attribute: bytearray) -> tuple[ctypes.c_long, ctypes.c_int, object, ctypes.c_uint]:
    """Return the arguments of a call that is made again and again, for `issue`.

    ``attribute`` is the union bpf_attr, which is not copied. OSError (ENOSYS) on a machine whose number of the call is
    not known.
    """
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) is not known for {platform.machine()}")
    buffer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
    return ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(attribute))


def issue(arguments: tuple[ctypes.c_long, ctypes.c_int, object, ctypes.c_uint]) -> int:
    """Make a call that was `prepared`; return its result. OSError as the kernel answers."""
    result = int(_libc.syscall(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def bpf(command: int, attribute: bytearray) -> int:
    """Make the call; return its result. OSError as the kernel answers, or as `prepared`."""
    return issue(prepared(command, attribute))


def address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Return the address of a buffer."""
    return ctypes.addressof(buffer)


def filled(data: bytes | bytearray) -> ctypes.Array[ctypes.c_char]:
    """Return a buffer with a copy of the data."""
    return ctypes.create_string_buffer(bytes(data), len(data))
