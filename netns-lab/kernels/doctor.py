# SPDX-License-Identifier: GPL-2.0
"""What `doctor` says in a machine: of a whole one, of one that lacks something, and what `--fix` puts right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernels.image import SOURCE
from kernels.machine import Machine
from kernels.steps import Row, yes

_COMMAND = f"{SOURCE}/.venv/bin/xdpguard"
_LONG = 1800.0  # seconds; doctor compiles the data plane, emulated
_BTF = "/sys/kernel/btf/vmlinux"
_HEADERS = "/usr/include/linux"


def doctor(machine: Machine) -> Iterator[Row]:
    """All checks on a machine that has everything, then each thing taken away in turn."""
    found = _ask(machine)
    for name, it in found.items():
        yield Row(name, "ok", it["result"])
    with _without(machine, f"mount --bind /dev/null {_BTF}", f"umount {_BTF}"):
        yield _said(_ask(machine), "without BTF", "warn", "BTF")
    with _without(machine, f"mv {_HEADERS} {_HEADERS}.off", f"mv {_HEADERS}.off {_HEADERS}"):
        yield _said(_ask(machine), "without kernel headers", "fail", "linux-libc-dev")
    for words, what in (("", "1 pair of queues"), ("--mode generic", "generic mode"), ("--mode generic", "GRO")):
        with _without(machine, f"{_COMMAND} attach {machine.interface} {words}", f"{_COMMAND} detach --all"):
            yield _said(_ask(machine), f"attached {words or 'in native mode'}", "warn", what)
    with _without(machine, "ip link add d0 type dummy && ip link set d0 up", "ip link del d0"):
        machine.ok(f"{_COMMAND} attach d0")
        yield _said(_ask(machine), "on a driver without native mode", "warn", "copies each packet")
        machine.ok(f"{_COMMAND} detach d0")
    yield from _fixed(machine)


def _fixed(machine: Machine) -> Iterator[Row]:
    """Switch the JIT off, where the kernel lets it be, and have `--fix` switch it on again."""
    jit = "/proc/sys/net/core/bpf_jit_enable"
    machine.run(f"echo 0 > {jit}")
    if machine.ok(f"cat {jit}").strip() == "0":  # not where the kernel has BPF_JIT_ALWAYS_ON
        yield _said(_ask(machine), "BPF interpreted", "warn", "bpf_jit_enable")
        done = machine.run(f"{_COMMAND} doctor --fix", _LONG)
        yield Row("--fix exits with", "0", str(done.returncode))
    yield Row("BPF is compiled after that", "1", machine.ok(f"cat {jit}").strip())


def _ask(machine: Machine) -> dict[str, Any]:
    done = machine.run(f"{_COMMAND} doctor --json", _LONG)
    return {it["name"]: it for it in json.loads(done.stdout)}


def _said(found: dict[str, Any], what: str, result: str, words: str) -> Row:
    """Whether some check came to that result and said these words, in its finding or its remedy."""
    bad = [it for it in found.values() if it["result"] != "ok"]
    told = any(it["result"] == result and words in json.dumps(it) for it in bad)
    shown = "; ".join(f"{it['name']} {it['result']}: {it['finding']}" for it in bad) or "everything ok"
    return Row(f"{what}: {result}, {words}", "yes", yes(told) if told else shown)


@contextmanager
def _without(machine: Machine, off: str, on: str) -> Iterator[None]:
    machine.ok(off, _LONG)
    try:
        yield
    finally:
        machine.ok(on, _LONG)
