# SPDX-License-Identifier: GPL-2.0
"""What a fleet is made of: its server, real hosts with a data plane each, simulated ones, and an operator."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from tied import tied
from topology import INTERFACE, Lab

from xdpguard.fleet import client, hosts
from xdpguard.fleet.keys import BUCKET
from xdpguard.fleet.message import Value, encode
from xdpguard.fleet.state import State
from xdpguard.policy.fleet import Fleet
from xdpguard.store.database import Store

WAIT = 120.0  # seconds, at most, for anything to come about
_REST, _RESTING = 2.0, 0.05  # seconds, and of a processor meanwhile: an idle service uses a tenth of that
_CLOCK = Path(__file__).parents[2] / "tests" / "support" / "wrong_clock"


class Figure(NamedTuple):
    """One result. ``met`` is None where nothing is wanted of it."""

    name: str
    wanted: str
    measured: str
    met: bool | None = None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT) -> float:
    """Returns how long it took; raises TimeoutError after so long."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + seconds:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - start


class Rested:
    """Whether a process has nothing left to do at once: for a while it slept whenever it was looked at, so that it did
    not wait for a processor either, and used next to none.
    """

    def __init__(self, look: Callable[[], tuple[str, float]], now: Callable[[], float] = time.monotonic) -> None:
        """``look`` returns its state, as proc(5) has it, and the seconds of a processor that it has used."""
        self._look, self._now = look, now
        self._since = self._used = -1.0

    def __call__(self) -> bool:
        """Looks once more."""
        state, used = self._look()
        if self._since < 0 or state != "S" or used - self._used > _RESTING:
            self._since, self._used = self._now(), used
        return self._now() - self._since >= _REST


def free_port() -> int:
    """A TCP port of the loopback that nobody uses."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def key_of(host: str, address: str) -> str:
    """The key of a block."""
    return f"{host}.block.4-{socket.inet_aton(address).hex()}-32"


def block(address: str, seconds: float = 3600.0, skew: float = 0.0) -> bytes:
    """The value of a block. ``skew``: by how much the publisher's clock is ahead, seconds."""
    now = time.time() + skew
    return encode(Value(1, "block", address, now, now + seconds))


class Server:
    """nats-server as `fleet setup` configures it."""

    def __init__(self, folder: Path, hosts: list[str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        setup = ["fleet", "setup", str(folder), "--listen", f"127.0.0.1:{self.port}"]
        xdpguard({}, *setup, *(part for host in hosts for part in ("--host", host)))
        self.operator = Fleet((self.url,), "operator", str(folder / "operator.toml"))

    def start(self, empty: bool = False) -> None:
        """Starts it, and waits until it answers. ``empty``: what it had stored is lost."""
        if empty:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        with (self.folder / "log").open("ab") as log:
            command = ["nats-server", "-c", str(self.folder / "nats-server.conf")]
            self.process = subprocess.Popen(tied(command), stdout=log, stderr=log)
        wait_for(self._answers, "the server listens")

    def kill(self) -> None:
        """Ends it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def memory(self) -> int:
        """The most that it had in memory, bytes."""
        assert self.process is not None
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0

    def ask(self, work: Callable[[client.Connection], Any]) -> Any:
        """Does something as the operator."""
        return client.run(self.operator, work)

    def put(self, rows: dict[str, bytes | None]) -> None:
        """Puts and deletes keys as the operator."""
        self.ask(lambda it: it.publish_all(BUCKET, rows))

    def wanted(self) -> State:
        """What the bucket holds, as a host understands it."""
        state = State()
        state.take(self.ask(lambda it: it.read()))
        return state

    def _answers(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0


class Real:
    """A host with a data plane, and `xdpguard run`, whose log says when something came into force."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.lab = Lab(f"xgfl{os.getpid() % 10_000}{name}", owner=os.getpid())
        self.environment = {
            "XDPGUARD_STATE_DIR": str(folder / name),
            "XDPGUARD_INSTANCE": f"fleet-{os.getpid()}-{name}",
        }
        self.environment["XDPGUARD_CONFIG_DIR"] = str(folder / name / "etc")
        self.said: list[tuple[float, str]] = []
        self._run: subprocess.Popen[str] | None = None

    def ahead(self, seconds: int) -> None:
        """Sets its clock, ahead of the machine's. The first time is before the service starts."""
        file = Path(self.environment["XDPGUARD_STATE_DIR"]).with_suffix(".clock")
        draft = file.with_suffix(".draft")
        draft.parent.mkdir(exist_ok=True)
        draft.write_text(str(seconds))
        draft.rename(file)
        path = os.pathsep.join([str(_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment |= {"PYTHONPATH": path, "AHEAD": str(file)}

    def up(self) -> None:
        """Makes its network, attaches, and starts the service."""
        self.lab.up()
        self.command("attach", INTERFACE, "--netns", self.lab.server)
        self.start()

    def command(self, *arguments: str) -> str:
        """Runs a command that must succeed; returns what it printed."""
        return xdpguard(self.environment, *arguments)

    def start(self) -> None:
        """Starts the service."""
        self._run = subprocess.Popen(
            tied([sys.executable, "-m", "xdpguard.cli", "run"]),
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._run,), daemon=True).start()

    def join(self, url: str, credentials: Path) -> None:
        """Joins the fleet."""
        self.command("fleet", "join", url, "--name", credentials.stem, "--credentials", str(credentials))

    def keep(self, credentials: Path) -> None:
        """Has it keep the fleet's snapshot, with an operator's credentials, when it joins."""
        file = Path(self.environment["XDPGUARD_CONFIG_DIR"]) / "keeper.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'[fleet]\nkeeper = true\ncredentials = "{credentials}"\n')
        self.command("attach", INTERFACE, "--netns", self.lab.server, "--config", str(file))

    def kill(self) -> None:
        """Ends the service at once."""
        if self._run is not None:
            self._run.send_signal(signal.SIGKILL)
            self._run.wait()
            self._run = None

    def down(self) -> None:
        """Leaves nothing behind."""
        self.kill()
        subprocess.run(
            [sys.executable, "-m", "xdpguard.cli", "detach", "--all"],
            env=os.environ | self.environment,
            capture_output=True,
            check=False,
        )
        self.lab.down()

    def stop(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Has the service stand still for so long, and something else happen."""
        assert self._run is not None
        self._run.send_signal(signal.SIGSTOP)
        meanwhile()
        time.sleep(seconds)
        self._run.send_signal(signal.SIGCONT)

    def standing(self) -> hosts.Standing:
        """How the service found itself last, by its store."""
        place = Path(self.environment["XDPGUARD_STATE_DIR"]) / self.environment["XDPGUARD_INSTANCE"] / "store.db"
        with Store(place, read_only=True) as store:
            return hosts.recorded(store) or hosts.Standing()

    def status(self) -> dict[str, Any]:
        """What `fleet status` says here of this host."""
        found: dict[str, Any] = json.loads(self.command("fleet", "status", "--json"))
        return found

    def follows(self) -> bool:
        """Whether its log says that it has connected."""
        return any("fleet: connected" in line for _, line in self.said)

    def in_force(self, address: str) -> float | None:
        """When the log said so of a block, monotonic seconds; None: not yet."""
        return next((at for at, line in self.said if f"blocked {address}" in line), None)

    def processor(self) -> float:
        """Seconds of a processor that the service has used."""
        return self.looked_at()[1]

    def looked_at(self) -> tuple[str, float]:
        """The state of the service's process, as proc(5) has it, and the seconds of a processor that it has used."""
        assert self._run is not None
        fields = Path(f"/proc/{self._run.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes of memory that the service holds and shares with nobody."""
        assert self._run is not None
        text = Path(f"/proc/{self._run.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(it) for it in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+) kB", text))

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in pipe(process.stdout):
            self.said.append((time.monotonic(), line.rstrip()))


def xdpguard(environment: dict[str, str], *arguments: str) -> str:
    """Runs a command that must succeed; returns what it printed."""
    command = [sys.executable, "-m", "xdpguard.cli", *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"xdpguard {' '.join(arguments[:3])}: {done.stderr.strip()}")
    return done.stdout


def pipe(end: IO[str] | None) -> IO[str]:
    """The end of a pipe to a process that was started with it."""
    assert end is not None
    return end
