# SPDX-License-Identifier: GPL-2.0
"""The error when the kernel refuses a program: its own words where it gives any, and a fitting remedy."""

from __future__ import annotations

import errno

import pytest

from xdpguard.errors import MissingError
from xdpguard.net.refusals import AttachRefused, refused

NATIVE = "attach to eth0 in native mode"


@pytest.mark.parametrize(
    ("code", "words", "said", "remedy"),
    [
        pytest.param(errno.EOPNOTSUPP, "", "the driver does not support it", "--mode generic", id="silent"),
        pytest.param(
            errno.EINVAL, "XDP is not allowed with LRO", "XDP is not allowed with LRO", "what it names", id="told"
        ),
        pytest.param(errno.EINVAL, "", "EINVAL", "dmesg", id="unknown and silent"),
        pytest.param(errno.ENOSPC, "veth: XDP expects number of rx queues", "rx queues", "ethtool -L", id="queues"),
        pytest.param(errno.ERANGE, "veth: Peer MTU is too large", "Peer MTU", "--mtu-any", id="MTU"),
        pytest.param(
            errno.EEXIST,
            "Cannot attach when an upper device already has a program",
            "upper device",
            "above it first",
            id="upper device",
        ),
        pytest.param(
            errno.EEXIST,
            "Native and generic XDP can't be active at the same time",
            "same time",
            "detach it",
            id="modes",
        ),
        pytest.param(errno.EEXIST, "Active program does not match expected", "not match", "try again", id="changed"),
        pytest.param(errno.EEXIST, "", "changed in the meantime", "try again", id="changed, silent"),
    ],
)
def test_reason_and_remedy(code: int, words: str, said: str, remedy: str) -> None:
    error = refused(NATIVE, code, words)
    assert isinstance(error, AttachRefused)
    assert error.code == code
    assert str(error).startswith(f"cannot {NATIVE}: ")
    assert said in str(error)
    assert remedy in error.remedy


def test_no_permission() -> None:
    assert isinstance(refused(NATIVE, errno.EPERM, ""), MissingError)
