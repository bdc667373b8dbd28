# SPDX-License-Identifier: GPL-2.0
"""The Debian package and its systemd unit in a machine: what is in force before, during and after each event."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernels.image import ROOT, say
from kernels.machine import Failed, Machine
from kernels.steps import Row, connects, wait_for_server, yes
from topology import CLIENTS4

_OLD, _NEW = "0.0.9", "0.1.0"  # versions that the package is built as, from the same tree
_UNIT = "xdpguard"
_BLOCKED, _ALSO, _OTHER = CLIENTS4[0], CLIENTS4[2], CLIENTS4[1]
_PATIENCE = 120  # seconds for what should come soon, on an emulated machine
_INSTALL = 1800.0  # seconds, most of them for compiling Python, emulated
_WATCHDOG = 15  # seconds, in place of the unit's own minute


def package(machine: Machine) -> Iterator[Row]:
    """Check the package's life cycle: install, upgrade with rules and an interface in force, remove, purge."""
    yield Row("the package installs", "yes", _installed(machine, _OLD))
    yield Row("its service runs", "yes", yes(_runs(machine, 0)))
    yield Row("and starts at boot", "enabled", machine.run(f"systemctl is-enabled {_UNIT}").stdout.strip())
    files = (
        "/usr/share/man/man1/xdpguard.1.gz /usr/share/bash-completion/completions/xdpguard /etc/xdpguard/default.toml"
    )
    yield Row("manual page, completion, configuration", "yes", yes(machine.run(f"ls {files}").returncode == 0))
    machine.serve()
    machine.ok(f"xdpguard attach {machine.interface} && xdpguard block {_BLOCKED}")
    yield Row("attached and in force", "no yes", _both(machine))
    with _knocking(machine) as knocks:
        yield Row("the new version installs over it", "yes", _installed(machine, _NEW))
    yield Row("times that a blocked client got in meanwhile", "0", str(knocks.count("in")))
    yield Row("times that it was kept out", "at least 1", str(knocks.count("out")))
    yield Row("version now", _NEW, machine.ok("xdpguard --version").split()[-1])
    yield Row("attached and in force after it", "no yes", _both(machine))
    status = json.loads(machine.run("xdpguard status --json").stdout)
    yield Row("interfaces attached", "1", str(sum(it["state"] == "attached" for it in status["interfaces"])))
    yield Row("rules", "1", str(len(json.loads(machine.ok("xdpguard rules --json")))))
    yield Row("its service runs again", "yes", yes(_runs(machine, 0)))
    yield Row("the package is removed", "yes", yes(machine.run("dpkg -r xdpguard").returncode == 0))
    carried = json.loads(machine.ok(f"ip -json link show {machine.interface}"))[0].get("xdp", {}).get("attached")
    yield Row("a program left after that", "no", yes(bool(carried)))
    yield Row("its rules are kept", "yes", yes(machine.run("ls /var/lib/xdpguard/default/store.db").returncode == 0))
    yield Row("who was blocked connects", "yes", yes(connects(machine.lab, _BLOCKED)))
    yield Row("it is purged", "yes", yes(machine.run("dpkg -P xdpguard").returncode == 0))
    left = machine.run("ls -d /etc/xdpguard /var/lib/xdpguard /var/cache/xdpguard /usr/lib/xdpguard").stdout.split()
    yield Row("folders left after that", "none", " ".join(left) or "none")


def service(machine: Machine) -> Iterator[Row]:
    """Check the service: set up by a file, reload, watchdog, kill -9, restart, reboot."""
    yield Row("the package installs", "yes", _installed(machine, _NEW))
    machine.serve()
    _configure(machine, block=[_BLOCKED])
    machine.ok(f"systemctl restart {_UNIT}")
    yield Row("a configuration attaches", "yes", yes(_attached(machine)))
    yield Row("in force", "no yes", _both(machine))
    _configure(machine, block=[_BLOCKED, _ALSO])
    machine.ok(f"systemctl reload {_UNIT}")
    yield Row("a reload blocks one more", "yes", yes(_kept_out(machine, _ALSO)))
    program = _program(machine)
    machine.ok(f"systemctl kill -s KILL {_UNIT}")
    yield Row("killed it is in force", "no", yes(connects(machine.lab, _BLOCKED, 1.5)))
    yield Row("and it runs again", "yes", yes(_runs(machine, 1)))
    yield Row("with the program of before", str(program), str(_program(machine)))
    machine.ok(
        f"mkdir -p /etc/systemd/system/{_UNIT}.service.d"
        f" && printf '[Service]\\nWatchdogSec={_WATCHDOG}\\nTimeoutAbortSec=5\\n'"
        f" > /etc/systemd/system/{_UNIT}.service.d/lab.conf && systemctl daemon-reload && systemctl restart {_UNIT}"
    )
    machine.ok(f"systemctl kill -s STOP {_UNIT}")
    yield Row("stopped it is in force", "no", yes(connects(machine.lab, _BLOCKED, 1.5)))
    yield Row("and the watchdog starts it anew", "yes", yes(_runs(machine, 1)))
    said = machine.ok(f"journalctl -u {_UNIT} -o cat").count("Watchdog timeout")
    yield Row("which the journal tells", "at least 1", str(said))
    score = machine.ok(f"systemd-analyze security --no-pager {_UNIT}").strip().splitlines()[-1]
    say("sandboxing: " + " ".join(score.split()))
    machine.reboot()
    wait_for_server(machine.lab)
    yield Row("after a reboot it runs", "yes", yes(_runs(machine, 0)))
    yield Row("attached without a hand", "yes", yes(_attached(machine)))
    yield Row("in force", "no yes", _both(machine))
    say("the journal of that boot:\n" + machine.ok(f"journalctl -b -u {_UNIT} --no-pager -o short-monotonic"))
    failed = machine.ok("systemctl --failed --no-legend --plain").strip()
    yield Row("units that failed", "none", failed or "none")
    machine.run(f"dpkg -P {_UNIT} && systemctl disable -q --now web")


def _installed(machine: Machine, version: str) -> str:
    """Build the package as a version and install it; return whether that succeeded, in words."""
    path = ROOT / "dist" / f"xdpguard_{version}-1_amd64.deb"
    done = subprocess.run([str(ROOT / ".debian" / "build"), version], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the package is not built: {done.stdout}{done.stderr}")
    machine.put(path, "/root/xdpguard.deb")
    found = machine.run("dpkg -i /root/xdpguard.deb", _INSTALL)
    return "yes" if found.returncode == 0 else found.stdout + found.stderr


def _configure(machine: Machine, block: list[str]) -> None:
    text = f"[attach]\ninterfaces = {json.dumps([machine.interface])}\n[rules]\nblock = {json.dumps(block)}\n"
    machine.ok(f"cat > /etc/xdpguard/default.toml <<'EOF'\n{text}EOF")


def _program(machine: Machine) -> int:
    link = json.loads(machine.ok(f"ip -json -details link show {machine.interface}"))[0]
    return int(link.get("xdp", {}).get("prog", {}).get("id", 0))


def _both(machine: Machine) -> str:
    """Return whether the blocked address connects, and whether another one does."""
    return f"{yes(connects(machine.lab, _BLOCKED, 1.5))} {yes(connects(machine.lab, _OTHER))}"


def _runs(machine: Machine, restarts: int) -> bool:
    """Return whether the service is soon active, after at least this many restarts."""
    test = (
        f'[ "$(systemctl is-active {_UNIT})" = active ] && [ "$(systemctl show -P NRestarts {_UNIT})" -ge {restarts} ]'
    )
    return _in_time(machine, test)


def _attached(machine: Machine) -> bool:
    """Return whether the interface soon has a program."""
    return _in_time(machine, f"ip link show {machine.interface} | grep -q xdp")


def _in_time(machine: Machine, test: str) -> bool:
    """Return whether a shell test in the machine soon succeeds; polled there, as a query from here takes a second."""
    return machine.run(f"timeout {_PATIENCE} sh -c 'until {test}; do sleep 0.5; done'").returncode == 0


def _kept_out(machine: Machine, address: str) -> bool:
    """Whether an address soon connects no more."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if not connects(machine.lab, address, 1.5):
            return True
    return False


@contextmanager
def _knocking(machine: Machine) -> Iterator[list[str]]:
    """Try to connect from the blocked address all the time; the results are in the list at the end."""
    knocks: list[str] = []
    code = (
        "import sys; from topology import Lab; from kernels.steps import connects\n"
        f"lab = Lab({machine.lab.name!r}, ordinary=True)\n"
        f"while True: print('in' if connects(lab, {_BLOCKED!r}, 0.5) else 'out', flush=True)"
    )
    lab = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(lab)}
    )
    try:
        yield knocks
    finally:
        process.terminate()
        said, _ = process.communicate()
        knocks += said.split()
