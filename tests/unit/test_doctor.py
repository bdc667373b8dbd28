# SPDX-License-Identifier: GPL-2.0
"""doctor: what it finds, what --fix fixes, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpguard import doctor
from xdpguard.doctor import host
from xdpguard.doctor.check import Check
from xdpguard.errors import MissingError
from xdpguard.instance import Instance


@pytest.fixture
def jit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BPF is interpreted on this kernel."""
    path = tmp_path / "bpf_jit_enable"
    path.write_text("0\n", encoding="ascii")
    monkeypatch.setattr(host, "JIT", path)
    monkeypatch.setattr("xdpguard.doctor.fixes.JIT", path)
    monkeypatch.setattr(doctor, "_CHECKS", (("kernel", host.running_kernel),))
    return path


def instance() -> Instance:
    return Instance("doctor-test", Path("/nowhere"), Path("/nowhere"))


def test_an_interpreting_kernel_is_told_and_mended(jit: Path) -> None:
    (told,) = doctor.run(instance())
    assert (told.result, told.fixed) == ("warn", "")
    assert "bpf_jit_enable=1" in told.remedy
    assert jit.read_text(encoding="ascii") == "0\n", "without --fix nothing is changed"
    (mended,) = doctor.run(instance(), fix=True)
    assert (mended.result, mended.remedy) == ("ok", "")
    assert "bpf_jit_enable is 1" in mended.fixed
    assert jit.read_text(encoding="ascii") == "1"
    (again,) = doctor.run(instance(), fix=True)
    assert again.fixed == "", "there is nothing more to do"


@pytest.mark.parametrize(("release", "lacks"), [((5, 15), 3), ((6, 1), 1), ((6, 12), 0)])
def test_what_an_older_kernel_lacks(
    jit: Path, monkeypatch: pytest.MonkeyPatch, release: tuple[int, int], lacks: int
) -> None:
    jit.write_text("1", encoding="ascii")
    monkeypatch.setattr("xdpguard.dataplane.sys.kernel.release", lambda: release)
    (told,) = doctor.run(instance())
    assert told.result == "ok"
    assert sum(what in told.finding for what in host._SINCE.values()) == lacks


def test_what_cannot_be_mended_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def headers(its: Instance) -> Check:
        del its
        raise MissingError("no headers", "install them")

    def fix(its: Instance) -> str:
        del its
        raise MissingError("the archive does not answer", "try again")

    monkeypatch.setattr(doctor, "_CHECKS", (("kernel headers", headers),))
    monkeypatch.setattr(doctor, "FIXES", {"kernel headers": fix})
    (told,) = doctor.run(instance(), fix=True)
    assert told.result == "fail"
    assert told.finding == "no headers; the fix failed: the archive does not answer"
    assert told.remedy == "install them"
