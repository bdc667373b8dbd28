# SPDX-License-Identifier: GPL-2.0
"""No program comes near the verifier's limit, whatever it is built for and whichever LLVM the host's bcc has."""

from __future__ import annotations

import struct

import pytest
import verified

from xdpguard.dataplane.sys.names import PROGRAMS

# What other compilers are tried on: every stage and helper is in at least one of them, in its largest form.
EVERYWHERE = {"plain", "veth", "observe", "frags", "no-btf", "linux-5-15", "probe"}


@pytest.mark.parametrize("variant", verified.VARIANTS)
def test_every_program_leaves_the_verifier_room(variant: str) -> None:
    compilers = (verified.BUILTIN, *(verified.CLANGS if variant in EVERYWHERE else ()))
    found = verified.figures(variant, compilers)
    for name in compilers:
        programs = {it.program for it in found if it.compiler == name}
        assert programs == set(PROGRAMS)
    assert not [it for it in found if not it.held]
    assert all(it.instructions > 0 for it in found)


def test_a_program_that_is_too_large_is_told() -> None:
    """Positive control: a loop that the verifier follows round by round, a short one and one beyond its limit."""

    def loop(rounds: int) -> bytes:
        begin = struct.pack("<BBhi", 0xB7, 0, 0, rounds)  # r0 = rounds
        turn = struct.pack("<BBhi", 0x07, 0, 0, -1) + struct.pack("<BBhi", 0x55, 0, -2, 0)  # until r0 -= 1 is 0
        return begin + turn + struct.pack("<BBhi", 0x95, 0, 0, 0)  # return r0

    assert 20_000 < verified.load("loop", loop(10_000)) < 30_000
    assert verified.load("loop", loop(2_000_000)) == verified.TOO_LARGE


def test_a_missing_compiler_is_not_a_success() -> None:
    with verified.rewritten("loopback") as made, pytest.raises(verified.Missing, match="netns-lab/setup"):
        made.verified("clang-0")
