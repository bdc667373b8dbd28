# SPDX-License-Identifier: GPL-2.0
"""BGP daemons in the namespaces of the lab: GoBGP, ExaBGP, FRR."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tied import tied

from support.command import Command
from support.traffic import eventually

FAMILIES = ("ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec")
OUR_AS, PEER_AS, ORIGIN_AS = 65_001, 65_002, 65_003
ORIGIN_PORT = 1790


class Daemon:
    """A process in a namespace with its log; killed at the end."""

    def __init__(self, netns: str, log: Path, words: list[str], environment: Mapping[str, str] | None = None) -> None:
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                tied(["nsenter", f"--net=/run/netns/{netns}", "--", *words]),
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, number: int = signal.SIGKILL) -> None:
        """Ends it and its processes with a signal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(20)


class GoBGP(Daemon):
    """A GoBGP daemon with one neighbor, driven through a socket, since its port is in a namespace."""

    def __init__(
        self,
        netns: str,
        folder: Path,
        own: str,
        peer: str,
        *,
        ours: bool,
        passive: bool = True,
        port: int = 179,
        number: int = 0,
    ) -> None:
        """``ours``: it is of this host, and not the neighbor; ``passive``: it waits for the neighbor.

        ``number``: of another system, whose neighbor is the neighbor.
        """
        folder.mkdir(exist_ok=True)
        self.socket = folder / "api"
        self.socket.unlink(missing_ok=True)
        local, remote = (OUR_AS, PEER_AS) if ours else (PEER_AS, OUR_AS)
        local, remote = (number, PEER_AS) if number else (local, remote)
        families = "".join(
            f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{it}"\n' for it in FAMILIES
        )
        config = folder / "gobgpd.toml"
        config.write_text(
            f'[global.config]\nas = {local}\nrouter-id = "{own}"\nport = {port}\n'
            f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{peer}"\npeer-as = {remote}\n'
            "[neighbors.timers.config]\nconnect-retry = 1\nhold-time = 3\nkeepalive-interval = 1\n"
            "idle-hold-time-after-reset = 1\n"
            f"[neighbors.transport.config]\npassive-mode = {str(passive).lower()}\n{families}"
        )
        super().__init__(
            netns,
            folder / "log",
            ["gobgpd", "-f", str(config), "--api-hosts", f"unix://{self.socket}", "--pprof-disable"],
        )
        try:
            assert eventually(lambda: self("neighbor").returncode == 0), self.log.read_text()
        except BaseException:
            self.end()
            raise

    @property
    def place(self) -> str:
        """What --gobgp names."""
        return f"unix:{self.socket}"

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of gobgp."""
        return subprocess.run(
            ["gobgp", "--target", self.place, "--json", *words], capture_output=True, text=True, timeout=30, check=False
        )

    def ok(self, words: str) -> Any:
        """Runs a command that must succeed; returns its answer."""
        done = self(*words.split())
        assert done.returncode == 0, done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def flow(self, rule: str, verb: str = "add", version: int = 4) -> None:
        """Announces a FlowSpec rule, or withdraws it."""
        self.ok(f"global rib -a ipv{version}-flowspec {verb} {rule}")

    def flows(self, version: int = 4) -> list[str]:
        """The FlowSpec rules in its table."""
        return list(self.ok(f"global rib -a ipv{version}-flowspec") or {})

    @property
    def established(self) -> bool:
        """Whether its session is there."""
        found = self.ok("neighbor") or []
        return [it["state"]["session_state"] for it in found] == [6]


class Bridge:
    """``xdpguard bridge bgp`` in the background."""

    def __init__(self, command: Command, *words: str) -> None:
        command.state.mkdir(exist_ok=True)
        self.log = command.state / "bridge.log"
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                tied(command.line("bridge", "bgp", *words)),
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def says(self, text: str) -> bool:
        """Whether that comes in its log."""
        return eventually(lambda: text in self.log.read_text())


class ExaBGP(Daemon):
    """An ExaBGP of this host, which starts the bridge as its process."""

    def __init__(self, netns: str, folder: Path, command: Command, own: str, peer: str, *words: str) -> None:
        folder.mkdir(exist_ok=True)
        script = folder / "bridge"
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in command.environment.items())
        run = shlex.join(command.line("bridge", "bgp", "--exabgp", *words))
        self.bridge_log = folder / "bridge.log"
        script.write_text(f"#!/bin/sh\n{exports}echo $$ > {folder}/bridge.pid\nexec {run} 2>> {self.bridge_log}\n")
        script.chmod(0o700)
        self.pid_file = folder / "bridge.pid"
        config = folder / "exabgp.conf"
        config.write_text(
            f"process xdpguard {{ run {script}; encoder json; }}\n"
            f"neighbor {peer} {{ router-id {own}; local-address {own}; local-as {OUR_AS}; peer-as {PEER_AS};\n"
            " hold-time 3; family { ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }\n"
            " api { processes [ xdpguard ]; neighbor-changes; receive { parsed; update; } } }\n"
        )
        settings = {"exabgp.daemon.user": "root", "exabgp.log.destination": "stderr"}
        super().__init__(
            netns, folder / "log", ["env", *(f"{k}={v}" for k, v in settings.items()), "exabgp", str(config)]
        )

    def says(self, text: str, times: int = 1) -> bool:
        """Whether that comes in the bridge's log."""
        return eventually(lambda: self.bridge_log.exists() and self.bridge_log.read_text().count(text) >= times)


class Frr(Daemon):
    """FRR's bgpd as the neighbor, without zebra. ``network``: what it announces as a blackhole.

    ``origin``: another neighbor, a GoBGP of ORIGIN_AS on that address and ORIGIN_PORT, whose FlowSpec rules it hands
    on: it cannot make any itself.
    """

    def __init__(self, netns: str, folder: Path, own: str, peer: str, network: str, origin: str = "") -> None:
        folder.mkdir()
        config = folder / "bgpd.conf"
        config.write_text(
            f"router bgp {PEER_AS}\n bgp router-id {own}\n no bgp ebgp-requires-policy\n no bgp network import-check\n"
            f" neighbor {peer} remote-as {OUR_AS}\n neighbor {peer} timers 1 3\n neighbor {peer} timers connect 1\n"
            f" address-family ipv4 unicast\n  network {network} route-map blackhole\n exit-address-family\n"
            f"{_flows(own, peer, origin) if origin else ''}route-map blackhole permit 10\n set community blackhole\n"
        )
        words = ["-f", str(config), "-i", str(folder / "pid"), "--vty_socket", str(folder), "-P", "0", "-n", "-Z"]
        # As root: it would change its user, and with that forget what ties it to this process.
        super().__init__(netns, folder / "log", ["/usr/lib/frr/bgpd", "-S", *words, "-l", own, "--log", "stdout"])


def _flows(own: str, peer: str, origin: str) -> str:
    families = "".join(
        f" address-family ipv{version} flowspec\n  neighbor {origin} activate\n  neighbor {peer} activate\n"
        " exit-address-family\n"
        for version in (4, 6)
    )
    return (
        f" neighbor {origin} remote-as {ORIGIN_AS}\n neighbor {origin} port {ORIGIN_PORT}\n"
        f" neighbor {origin} update-source {own}\n neighbor {origin} timers 1 3\n"
        f" neighbor {origin} timers connect 1\n{families}"
    )
