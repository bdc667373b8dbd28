# SPDX-License-Identifier: GPL-2.0
"""A flood that writes a chosen client's address into its SYNs does not keep that client out, as the policy comes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from support.command import Command, on
from support.guard import listen, sysctls
from support.traffic import Family, client_address, eventually, server_address, start_flood
from topology import INTERFACE, Lab

from xdpguard.net.netns import entered

QUIET, BUSY, CLOSED = 8000, 8001, 9  # the port that clients want, another one, and one on which nobody listens
VICTIM, TRIES = 4, 3


def connects(lab: Lab, family: Family, seconds: float = 10.0) -> bool:
    """Whether the victim's connection is set up within the time for its SYN and some repetitions."""
    with entered(lab.outside), contextlib.suppress(OSError):
        source, address = (client_address(family, VICTIM), 0), (server_address(family), QUIET)
        socket.create_connection(address, timeout=seconds, source_address=source).close()
        return True
    return False


@pytest.fixture
def attached(lab: Lab, command: Command) -> Command:
    """With a guard whose limits are those it comes with; it only begins sooner and stays longer."""
    command.ok("guard", "set", "flood_rate=1000", "hold=60s")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    return command


def active(command: Command) -> bool:
    return bool(on(command.json("guard", "show"), INTERFACE)["active"])


@contextlib.contextmanager
def flooded(lab: Lab, command: Command, family: Family, port: int) -> Iterator[None]:
    """A flood of SYNs from the victim's address and the next one, any source port, from when the guard acts on it."""
    pair = f"{client_address(family, VICTIM)}/{31 if family == 4 else 127}"
    words = ["syn", "--port", str(port), "--source", pair, "--rate", "60000"]
    flood = start_flood(lab, *words, *(["-6"] if family == 6 else []), "--seconds", "40")
    try:
        assert eventually(lambda: active(command), 30)
        yield
        assert active(command), "positive control: it acted all the time"
    finally:
        flood.terminate()
        flood.communicate(timeout=60)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("syncookies", "port"),
    [(0, BUSY), (0, CLOSED), (1, QUIET), (1, BUSY), (1, CLOSED), (2, QUIET), (2, CLOSED)],
    ids=["0-other", "0-closed", "1-same", "1-other", "1-closed", "2-same", "2-closed"],
)
def test_a_forged_client_goes_on_connecting(
    lab: Lab, attached: Command, family: Family, syncookies: int, port: int
) -> None:
    """Whether a cookie can be sent (2), only to a full queue (1) or not at all (0), and whatever the flood aims at."""
    with (
        listen(lab, QUIET),
        listen(lab, BUSY),
        sysctls(lab, tcp_syncookies=syncookies),
        flooded(lab, attached, family, port),
    ):
        assert [connects(lab, family) for _ in range(TRIES)] == [True] * TRIES


def test_a_limit_by_source_is_what_could_be_turned_against_it(lab: Lab, attached: Command) -> None:
    """So the policy has none of itself, and guard set says what it does."""
    with listen(lab, QUIET), listen(lab, BUSY), sysctls(lab, tcp_syncookies=1):
        assert "anyone can forge" in attached("guard", "set", "syn_rate=10", "burst=100ms").err
        assert "anyone can forge" in attached("guard", "show").err
        with flooded(lab, attached, 4, CLOSED):
            assert [connects(lab, 4, 2.5) for _ in range(TRIES)] != [True] * TRIES
            assert "anyone can forge" not in attached("guard", "set", "syn_rate=default").err
            assert connects(lab, 4)
