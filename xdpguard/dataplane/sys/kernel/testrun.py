# SPDX-License-Identifier: GPL-2.0
"""Running a program on frames that nobody sent (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

from xdpguard.dataplane.sys.kernel.call import address, bpf, filled, issue, prepared

_PROG_TEST_RUN = 10
TEST_RUN_LIVE_FRAMES = 1 << 1


class TestRun(NamedTuple):
    """What BPF_PROG_TEST_RUN answered: the verdict, the frame afterwards, mean ns a run."""

    verdict: int
    data: bytes
    duration: int


def test_run(fd: int, data: bytes, repeat: int = 1, ifindex: int = 0, live_batch: int = 0) -> TestRun:
    """Run a program on one frame (BPF_PROG_TEST_RUN).

    ``repeat`` runs it that often and gives the mean duration. ``ifindex`` is the interface the frame seems to come
    from. ``live_batch`` > 0 sends real frames where the program redirects them, that many at once.
    """
    source = filled(data)
    target = ctypes.create_string_buffer(len(data) + 512)
    context = filled(struct.pack("=6I", 0, len(data), 0, ifindex, 0, 0))
    context_size = 24 if ifindex else 0
    flags = TEST_RUN_LIVE_FRAMES if live_batch else 0
    attribute = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQIII",
            fd,
            0,
            len(data),
            0 if live_batch else len(target),
            address(source),
            0 if live_batch else address(target),
            repeat,
            0,
            context_size,
            0,
            address(context) if ifindex else 0,
            0,
            flags,
            0,
            live_batch,
        )
    )
    bpf(_PROG_TEST_RUN, attribute)
    verdict, _, size = struct.unpack_from("=III", attribute, 4)
    duration = struct.unpack_from("=I", attribute, 36)[0]
    return TestRun(verdict, b"" if live_batch else target.raw[:size], duration)


class Runner:
    """Runs a program on one frame after the other (BPF_PROG_TEST_RUN), with as little as possible between the calls.

    Running one frame often in one call does not do it: there the kernel first prepares for speed, which takes
    milliseconds.
    """

    LONGEST = 3072  # octets of a frame; the kernel's buffer is a page, less head and tail room

    def __init__(self, fd: int, ifindex: int = 0) -> None:
        """``ifindex``: as in `test_run`."""
        self._frame = memoryview(bytearray(self.LONGEST))
        self._context = bytearray(struct.pack("=6I", 0, 0, 0, ifindex, 0, 0))
        buffers = [(ctypes.c_char * len(it)).from_buffer(it) for it in (self._frame, self._context)]
        frame, context = map(address, buffers)
        at, size = (context, len(self._context)) if ifindex else (0, 0)
        self._attribute = bytearray(
            struct.pack("=IIIIQQIIIIQQIII", fd, 0, 0, 0, frame, 0, 1, 0, size, 0, at, 0, 0, 0, 0)
        )
        self._call = prepared(_PROG_TEST_RUN, self._attribute)
        self._sizes = struct.Struct("=II")

    def run(self, frame: bytes | memoryview) -> None:
        """Run the program on a frame of 14 to LONGEST octets."""
        length = len(frame)
        self._frame[:length] = frame
        self._sizes.pack_into(self._attribute, 8, length, 0)  # the kernel has written the second one
        self._sizes.pack_into(self._context, 0, 0, length)
        issue(self._call)
