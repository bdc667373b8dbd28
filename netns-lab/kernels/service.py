# SPDX-License-Identifier: GPL-2.0
"""The Debian package and its systemd unit in a machine: what is in force before, during and after whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernels.image import ROOT, say
from kernels.machine import Failed, Machine
from kernels.steps import Row, connects, wait_for_server
from topology import CLIENTS4

_OLD, _NEW = "0.0.9", "0.1.0"  # versions that the package is built as, from the same tree
_UNIT = "xdpguard"
_BLOCKED, _ALSO, _OTHER = CLIENTS4[0], CLIENTS4[2], CLIENTS4[1]
_WEB = "python3 -m http.server 80 --directory /srv"
_PATIENCE = 120  # seconds for what should come soon, on an emulated machine
_WATCHDOG = 15  # seconds, in place of the unit's own minute


def package(machine: Machine) -> Iterator[Row]:
    """The package's life: install, upgrade with rules and an interface in force, remove, purge."""
    before = _installed(machine, _OLD)
    yield Row("the package installs", "yes", before)
    yield Row("its service runs", "yes", _yes(_runs(machine, 0)))
    yield Row("and starts at boot", "enabled", machine.run(f"systemctl is-enabled {_UNIT}").stdout.strip())
    files = (
        "/usr/share/man/man8/xdpguard.8.gz /usr/share/bash-completion/completions/xdpguard /etc/xdpguard/default.toml"
    )
    yield Row("manual page, completion, configuration", "yes", _yes(machine.run(f"ls {files}").returncode == 0))
    _serve(machine)
    machine.ok(f"xdpguard attach {_lan(machine)} && xdpguard block {_BLOCKED}")
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
    yield Row("its service runs again", "yes", _yes(_runs(machine, 0)))
    yield Row("the package is removed", "yes", _yes(machine.run("dpkg -r xdpguard").returncode == 0))
    carried = json.loads(machine.ok(f"ip -json link show {_lan(machine)}"))[0].get("xdp", {}).get("attached")
    yield Row("a program left after that", "no", _yes(bool(carried)))
    yield Row("its rules are kept", "yes", _yes(machine.run("ls /var/lib/xdpguard/default/store.db").returncode == 0))
    yield Row("who was blocked connects", "yes", _yes(connects(machine.lab, _BLOCKED)))
    yield Row("it is purged", "yes", _yes(machine.run("dpkg -P xdpguard").returncode == 0))
    left = machine.run("ls -d /etc/xdpguard /var/lib/xdpguard /var/cache/xdpguard /usr/lib/xdpguard").stdout.split()
    yield Row("folders left after that", "none", " ".join(left) or "none")


def service(machine: Machine) -> Iterator[Row]:
    """The service: set up by a file, reload, watchdog, kill -9, restart, reboot."""
    yield Row("the package installs", "yes", _installed(machine, _NEW))
    _serve(machine, at_boot=True)
    _configure(machine, block=[_BLOCKED])
    machine.ok(f"systemctl restart {_UNIT}")
    yield Row("a configuration attaches", "yes", _yes(_until(machine, attached=True)))
    yield Row("in force", "no yes", _both(machine))
    _configure(machine, block=[_BLOCKED, _ALSO])
    machine.ok(f"systemctl reload {_UNIT}")
    yield Row("a reload blocks one more", "yes", _yes(_soon(machine, _ALSO, False)))
    program = _program(machine)
    machine.ok(f"systemctl kill -s KILL {_UNIT}")
    yield Row("killed it is in force", "no", _yes(connects(machine.lab, _BLOCKED, 1.5)))
    yield Row("and it runs again", "yes", _yes(_runs(machine, 1)))
    yield Row("with the program of before", str(program), str(_program(machine)))
    machine.ok(
        f"mkdir -p /etc/systemd/system/{_UNIT}.service.d"
        f" && printf '[Service]\\nWatchdogSec={_WATCHDOG}\\nTimeoutAbortSec=5\\n'"
        f" > /etc/systemd/system/{_UNIT}.service.d/lab.conf && systemctl daemon-reload && systemctl restart {_UNIT}"
    )
    machine.ok(f"systemctl kill -s STOP {_UNIT}")
    yield Row("stopped it is in force", "no", _yes(connects(machine.lab, _BLOCKED, 1.5)))
    yield Row("and the watchdog starts it anew", "yes", _yes(_runs(machine, 1)))
    said = machine.ok(f"journalctl -u {_UNIT} -o cat").count("Watchdog timeout")
    yield Row("which the journal tells", "at least 1", str(said))
    score = machine.ok(f"systemd-analyze security --no-pager {_UNIT}").strip().splitlines()[-1]
    say("sandboxing: " + " ".join(score.split()))
    machine.reboot()
    wait_for_server(machine.lab)
    yield Row("after a reboot it runs", "yes", _yes(_runs(machine, 0)))
    yield Row("attached without a hand", "yes", _yes(_until(machine, attached=True)))
    yield Row("in force", "no yes", _both(machine))
    say("the journal of that boot:\n" + machine.ok(f"journalctl -b -u {_UNIT} --no-pager -o short-monotonic"))
    failed = machine.ok("systemctl --failed --no-legend --plain").strip()
    yield Row("units that failed", "none", failed or "none")


def _installed(machine: Machine, version: str) -> str:
    """Builds the package as a version, and installs it; whether that went well, in words."""
    path = ROOT / "dist" / f"xdpguard_{version}-1_amd64.deb"
    done = subprocess.run([str(ROOT / ".debian" / "build"), version], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the package is not built: {done.stdout}{done.stderr}")
    machine.put(path, "/root/xdpguard.deb")
    found = machine.run("dpkg -i /root/xdpguard.deb")
    return "yes" if found.returncode == 0 else found.stdout + found.stderr


def _configure(machine: Machine, block: list[str]) -> None:
    text = f"[attach]\ninterfaces = {json.dumps([_lan(machine)])}\n[rules]\nblock = {json.dumps(block)}\n"
    machine.ok(f"cat > /etc/xdpguard/default.toml <<'EOF'\n{text}EOF")


def _serve(machine: Machine, at_boot: bool = False) -> None:
    """A web server on port 80, also after a restart where that is wanted."""
    if at_boot:
        unit = f"[Service]\nExecStart={_WEB}\n[Install]\nWantedBy=multi-user.target\n".replace(
            "python3", "/usr/bin/python3"
        )
        machine.ok(f"printf '{unit}' > /etc/systemd/system/web.service && systemctl enable -q --now web")
    else:
        machine.ok(f"systemd-run -q --unit=web {_WEB}")
    wait_for_server(machine.lab)


def _lan(machine: Machine) -> str:
    links = json.loads(machine.ok("ip -json link"))
    return str(next(it["ifname"] for it in links if it["address"] == "02:00:00:00:00:01"))


def _program(machine: Machine) -> int:
    link = json.loads(machine.ok(f"ip -json -details link show {_lan(machine)}"))[0]
    return int(link.get("xdp", {}).get("prog", {}).get("id", 0))


def _both(machine: Machine) -> str:
    """Whether the blocked address connects, and another one."""
    return f"{_yes(connects(machine.lab, _BLOCKED, 1.5))} {_yes(connects(machine.lab, _OTHER))}"


def _runs(machine: Machine, restarts: int) -> bool:
    """Whether the service is active soon, after at least so many restarts."""
    test = (
        f'[ "$(systemctl is-active {_UNIT})" = active ] && [ "$(systemctl show -P NRestarts {_UNIT})" -ge {restarts} ]'
    )
    return _in_time(machine, test)


def _until(machine: Machine, attached: bool) -> bool:
    test = f"ip link show {_lan(machine)} | grep -q xdp"
    return _in_time(machine, test if attached else f"! {test}")


def _in_time(machine: Machine, test: str) -> bool:
    """Whether a shell test in the machine comes true soon; asked there, as a question from here takes a second."""
    return machine.run(f"timeout {_PATIENCE} sh -c 'until {test}; do sleep 0.5; done'").returncode == 0


def _soon(machine: Machine, address: str, wanted: bool) -> bool:
    return any(connects(machine.lab, address, 1.5) is wanted for _ in range(20))


@contextmanager
def _knocking(machine: Machine) -> Iterator[list[str]]:
    """Tries to connect from the blocked address all the time; what became of it is in the list at the end."""
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


def _yes(what: bool) -> str:
    return "yes" if what else "no"
