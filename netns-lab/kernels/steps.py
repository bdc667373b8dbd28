# SPDX-License-Identifier: GPL-2.0
"""Attach, block, guard and detach on real traffic: to a machine's virtio_net from here, or on veths in the machine.

Run as a program in the machine, it takes the steps on a lab of veths there, and prints their rows as JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from topology import CLIENTS4, INTERFACE, OUTSIDE4, SERVER4, Lab

from xdpguard.net.netns import entered

_PORT = 80
_WAIT = 5.0  # seconds; limit for an answer of an emulated machine
SERVE = f"/usr/bin/python3 -m http.server {_PORT} --directory /srv"  # the web server of every check
_FLOOD = {"rate": 3000, "begins": 1000, "seconds": 40, "clients": 8}
_HERE = Path(__file__).parent


class Row(NamedTuple):
    """What was expected, what was found, and whether they match."""

    what: str
    expected: str
    found: str

    @property
    def right(self) -> bool:
        """Whether it is as expected; for ``... at least N``, not less."""
        if self.expected.startswith("at least "):
            return int(self.found) >= int(self.expected.split()[-1])
        return self.expected == self.found


class Site(Protocol):
    """Where the steps are taken: an interface to attach to, and a lab whose outside sends the traffic."""

    interface: tuple[str, ...]  # as command line arguments
    lab: Lab

    def xdpguard(self, *words: str) -> str:
        """Run a command; return its output. Raise if it fails."""


def steps(site: Site, mode: str) -> Iterator[Row]:
    """Take the steps in order. ``mode``: the expected mode of the attachment."""
    yield Row("connects before attach", "yes", yes(connects(site.lab)))
    site.xdpguard("attach", *site.interface)
    status = json.loads(site.xdpguard("status", "--json"))
    yield Row("attached in mode", mode, status["interfaces"][0]["mode"])
    yield Row("connects", "yes", yes(connects(site.lab)))
    site.xdpguard("block", CLIENTS4[0], "--reason", "kernels")
    yield Row("a blocked address connects", "no", yes(connects(site.lab, CLIENTS4[0], 1.5)))
    yield Row("another one does", "yes", yes(connects(site.lab, CLIENTS4[1])))
    rule = next(it for it in json.loads(site.xdpguard("rules", "--json")) if it["target"].startswith(CLIENTS4[0]))
    yield Row("packets that the rule dropped", "at least 1", str(rule["packets"]))
    site.xdpguard("unblock", CLIENTS4[0])
    yield Row("unblocked it connects", "yes", yes(connects(site.lab, CLIENTS4[0])))
    site.xdpguard("lists", "load", "kernels", "netns-lab/kernels/list.txt")
    yield Row("an address of a list connects", "no", yes(connects(site.lab, CLIENTS4[1], 1.5)))
    yield Row("one that is not in it does", "yes", yes(connects(site.lab, CLIENTS4[0])))
    site.xdpguard("lists", "remove", "kernels")
    yield Row("without the list it connects", "yes", yes(connects(site.lab, CLIENTS4[1])))
    site.xdpguard("filter", "add", "kernels", f"ip saddr {CLIENTS4[1]} tcp dport {_PORT}", "--drop")
    yield Row("a client that a filter drops connects", "no", yes(connects(site.lab, CLIENTS4[1], 1.5)))
    yield Row("one that it does not match does", "yes", yes(connects(site.lab, CLIENTS4[0])))
    site.xdpguard("filter", "remove", "kernels")
    site.xdpguard("guard", "set", f"flood_rate={_FLOOD['begins']}", "hold=30s")
    with _flooded(site.lab):
        found = _until_active(site)
        yield Row("a flood makes the guard active", "yes", yes(found))
        clients = sum(connects(site.lab, address) for address in CLIENTS4[: _FLOOD["clients"]])
        yield Row("clients served in it", str(_FLOOD["clients"]), str(clients))
        state = _state(site)
        yield Row("SYNs that it answered", "at least 1000", str(state["counters"]["cookie_sent"]))
        yield Row("proofs of clients", f"at least {_FLOOD['clients']}", str(state["counters"]["cookies_valid"]))
    site.xdpguard("detach", "--all")
    left = json.loads(site.xdpguard("status", "--json"))["interfaces"]
    yield Row("interfaces attached after detach", "0", str(len(left)))
    yield Row("connects after detach", "yes", yes(connects(site.lab)))


def yes(what: bool) -> str:
    """Format a result for a row."""
    return "yes" if what else "no"


def _state(site: Site) -> Any:
    shown = json.loads(site.xdpguard("guard", "show", "--json"))
    return next(iter(shown["interfaces"].values()))


def _until_active(site: Site) -> bool:
    return any(_state(site)["active"] for _ in range(4))


def connects(lab: Lab, source: str = OUTSIDE4, wait: float = _WAIT) -> bool:
    """Return whether a request from an outside address is answered."""
    with entered(lab.outside):
        client = http.client.HTTPConnection(SERVER4, _PORT, timeout=wait, source_address=(source, 0))
        try:
            client.request("HEAD", "/")
            return client.getresponse().status == 200
        except OSError:
            return False
        finally:
            client.close()


@contextmanager
def _flooded(lab: Lab) -> Iterator[None]:
    flood = subprocess.Popen(
        [
            *(sys.executable, str(_HERE.parent / "flood.py"), "syn", "--netns", lab.outside, "--port", str(_PORT)),
            *("--rate", str(_FLOOD["rate"]), "--seconds", str(_FLOOD["seconds"])),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        flood.terminate()
        flood.communicate()


class Veth:
    """A lab of veths on this machine."""

    def __init__(self, lab: Lab, name: str = INTERFACE) -> None:
        """``name``: of the interface in the server's namespace."""
        self.lab = lab
        self.interface: tuple[str, ...] = (name, "--netns", lab.server)

    def xdpguard(self, *words: str) -> str:
        """Run a command."""
        return subprocess.run(
            [sys.executable, "-m", "xdpguard.cli", *words], capture_output=True, text=True, check=True
        ).stdout


@contextmanager
def served(lab: Lab) -> Iterator[None]:
    """Start an HTTP server in the server's namespace; return once it listens."""
    server = lab.start(lab.server, SERVE.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_server(lab)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_for_server(lab: Lab) -> None:
    """Wait until the server listens. Raise TimeoutError after a minute."""
    deadline = time.monotonic() + 60
    with entered(lab.outside):
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(_WAIT)
                if probe.connect_ex((SERVER4, _PORT)) == 0:
                    return
    raise TimeoutError(f"nobody listens on port {_PORT} of {SERVER4}")


def main() -> int:
    """Take the steps on veths; print a row of JSON for each."""
    with Lab("xgsteps", owner=0) as lab, served(lab):
        for row in steps(Veth(lab), "native"):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
