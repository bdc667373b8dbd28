# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run`` and interfaces that go and come: also within less than it takes to look."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from support.command import Command
from support.foreign import XDP_PASS
from support.service import Run
from support.traffic import Echo, eventually, works
from topology import CLIENTS4, INTERFACE, OUTSIDE_MAC, SERVER_MAC, Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.net.carried import program_on
from xdpguard.net.changes import Changes
from xdpguard.net.links import Links
from xdpguard.net.netns import cookie_of, entered, place

BLOCKED, FREE = 3, 4  # numbers of clients


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """A lab whose links this test takes away."""
    with Lab(f"xglinks{os.getpid()}", owner=os.getpid()) as made:
        yield made


@pytest.fixture
def attached(own_lab: Lab, command: Command) -> Command:
    command.ok("attach", INTERFACE, "--netns", own_lab.server)
    return command


def ip(namespace: str, *arguments: str) -> None:
    subprocess.run(["ip", "-n", namespace, *arguments], check=True)


def index(lab: Lab) -> int:
    with entered(lab.server):
        return socket.if_nametoindex(INTERFACE)


def blocks(lab: Lab, client: int = BLOCKED) -> bool:
    """Whether a client is dropped while another one gets through."""
    return not works(lab, 4, "udp", client) and works(lab, 4, "udp", FREE)


def state(command: Command) -> str:
    (found,) = command.json("status")["interfaces"]
    return str(found["state"])


@pytest.mark.parametrize("how", ["another index", "the same index", "another namespace of that name"])
def test_an_interface_made_anew_is_attached_again(own_lab: Lab, attached: Command, how: str) -> None:
    """It is away for less than it takes to look; the block that was in force is in force again."""
    attached.ok("block", CLIENTS4[BLOCKED])
    with Run(attached) as run:
        assert run.says("watching eth0"), run.lines
        with Echo(own_lab):
            assert blocks(own_lab)
            attached.ok("unblock", CLIENTS4[BLOCKED])
            assert works(own_lab, 4, "udp", BLOCKED), "it is the block that drops"
            attached.ok("block", CLIENTS4[BLOCKED])
        before, said = index(own_lab), len(run.lines)
        if how == "another namespace of that name":
            own_lab.down()
        elif how == "another index":
            ip(own_lab.server, "link", "del", INTERFACE)
        else:
            ip(own_lab.server, "link", "del", INTERFACE)
            end, peer = f"{INTERFACE} index {before} address {SERVER_MAC}", f"tmp0 address {OUTSIDE_MAC}"
            ip(own_lab.server, *f"link add {end} type veth peer name {peer}".split())
            ip(own_lab.server, "link", "set", "tmp0", "netns", own_lab.outside, "name", INTERFACE)
        own_lab.up()
        assert (index(own_lab) == before) == (how != "another index")
        with Echo(own_lab):
            again = f"attached to eth0 (in {own_lab.server}) again"
            assert run.says(again, after=said), run.lines
            assert state(attached) == "attached"
            assert eventually(lambda: blocks(own_lab))
            attached.ok("unblock", CLIENTS4[BLOCKED])
            assert works(own_lab, 4, "udp", BLOCKED)
        assert run.end() == 0


def test_one_that_is_made_anew_again_and_again_is_attached_each_time(own_lab: Lab, attached: Command) -> None:
    """With the same index and without; also while the service is just attaching to the one before."""
    spare = ("link", "add", "spare0", "type", "veth", "peer", "spare1")
    ip(own_lab.server, *spare)
    attached.ok("attach", "spare0", "--netns", own_lab.server)
    with Run(attached) as run:
        assert run.says("watching"), run.lines
        for made in (spare, (*spare[:3], "index", "777", *spare[3:]), (*spare[:3], "index", "777", *spare[3:]), spare):
            for _ in range(2):
                ip(own_lab.server, "link", "del", "spare0")
                ip(own_lab.server, *made)
            assert eventually(lambda: bool(program_on("spare0", own_lab.server)), 30), run.lines
        assert run.end() == 0


def test_without_the_capability_it_takes_longer(own_lab: Lab, attached: Command) -> None:
    """Under a unit file of an earlier version: it says what it lacks, and looks every ten seconds."""
    with Run(attached, before=("setpriv", "--bounding-set=-net_broadcast")) as run:
        assert run.says("watching eth0"), run.lines
        assert run.says("the service lacks CAP_NET_BROADCAST"), run.lines
        ip(own_lab.server, "link", "del", INTERFACE)
        own_lab.up()
        assert run.says(f"attached to eth0 (in {own_lab.server}) again", 60), run.lines
        assert run.end() == 0


def take_off(lab: Lab) -> None:
    ip(lab.server, "link", "set", INTERFACE, "xdp", "off")


def test_one_whose_program_is_taken_off_gets_it_again(own_lab: Lab, attached: Command) -> None:
    """Each time later; `status` and `block` say meanwhile that nothing is in force there."""
    place = f"eth0 (in {own_lab.server})"
    with Run(attached) as run:
        assert run.says("watching eth0"), run.lines
        assert attached("block", CLIENTS4[BLOCKED]).err == "", "in force wherever it should be"
        for times, wait in enumerate(("1s", "2s", "4s"), start=1):
            said = len(run.lines)
            take_off(own_lab)
            how_often = f", {times} times by now" if times > 1 else ""
            text = (
                f"{place} lost its program: somebody detached it{how_often}; nothing is in force there; it is attached"
            )
            assert run.says(f"{text} again in {wait}; ", after=said), run.lines
            if wait == "4s":
                status = attached("status")
                assert (status.code, "not attached" in status.out) == (1, True)
                assert f"{place} lost its program" in attached("block", CLIENTS4[FREE]).err
                attached.ok("unblock", CLIENTS4[FREE])
            assert run.says(f"attached to {place} again", after=said), run.lines
            assert state(attached) == "attached"
            with Echo(own_lab):
                assert blocks(own_lab)
        assert run.count("lost its program") == 3, "each is said once"
        assert run.end() == 0


def test_one_that_is_detached_by_command_stays_so(own_lab: Lab, attached: Command) -> None:
    with Run(attached) as run:
        assert run.says("watching eth0"), run.lines
        take_off(own_lab)
        assert run.says("lost its program"), run.lines
        attached.ok("detach", INTERFACE, "--netns", own_lab.server)
        assert run.says("nothing is attached anymore"), run.lines
        ip(own_lab.server, "addr", "add", "198.18.0.99/24", "dev", INTERFACE)
        run.process.send_signal(signal.SIGHUP)
        assert run.says("configuration reloaded"), "it has looked once more"
        assert program_on(INTERFACE, own_lab.server) == 0
        assert run.end() == 0


def test_another_program_is_named_and_left_alone(own_lab: Lab, attached: Command) -> None:
    """Until it is gone: then ours is attached again."""
    place, links = f"eth0 (in {own_lab.server})", Links()
    with Run(attached) as run:
        assert run.says("watching eth0"), run.lines
        take_off(own_lab)
        program = kernel.load_xdp(XDP_PASS, "tenant")
        with contextlib.closing(os.fdopen(program, "rb")):
            links.attach(links.get(INTERFACE, own_lab.server), program, "native", None)
            theirs = f"program {kernel.program_info(program).id} (tenant), held by "
            assert run.says(f"{place} carries another XDP program, {theirs}"), run.lines
            (line,) = [it for it in run.lines if theirs in it]
            assert f"(pid {os.getpid()})" in line
            assert "it is left alone" in line
            said = len(run.lines)
            ip(own_lab.server, "addr", "add", "198.18.0.99/24", "dev", INTERFACE)
            run.process.send_signal(signal.SIGHUP)
            assert run.says("configuration reloaded"), "it has looked once more"
            assert run.count("carries another", after=said) == 0
            assert program_on(INTERFACE, own_lab.server) == kernel.program_info(program).id
        take_off(own_lab)
        assert run.says(f"attached to {place} again", after=said), run.lines
        assert state(attached) == "attached"
        assert run.end() == 0


def test_block_names_where_it_is_in_force(own_lab: Lab, attached: Command) -> None:
    ip(own_lab.server, "link", "add", "late0", "type", "veth", "peer", "late1")
    attached.ok("attach", "late0", "--netns", own_lab.server, "--mode", "native")
    assert attached("block", CLIENTS4[BLOCKED]).err == ""
    ip(own_lab.server, "link", "set", "late0", "xdp", "off")
    said = attached("block", CLIENTS4[BLOCKED]).err
    assert f"in force on eth0 (in {own_lab.server})" in said
    assert f"late0 (in {own_lab.server}) lost its program" in said
    ip(own_lab.server, "link", "del", "late0")
    assert f"late0 (in {own_lab.server}) is not there under that name" in attached("block", CLIENTS4[BLOCKED]).err


def test_what_the_kernel_tells(own_lab: Lab) -> None:
    """Links, addresses and default routes, of the watched namespaces only; other routes are not heard of."""
    changes = Changes()
    try:
        assert changes.everywhere
        changes.watch([own_lab.server])

        def heard(*arguments: str) -> bool:
            """Of that alone: what was before is read away."""
            quiet()
            ip(own_lab.server, *arguments)
            return any(number is not None for _, number in changes._messages())

        def quiet() -> None:
            eventually(lambda: changes.read() is None, 5)

        quiet()
        assert heard("addr", "add", "198.18.0.98/24", "dev", INTERFACE)
        assert heard("route", "replace", "default", "via", "198.18.0.10")
        assert not heard("route", "add", "203.0.113.0/24", "via", "198.18.0.10")
        gone = index(own_lab)
        ip(own_lab.server, "link", "del", INTERFACE)
        seen = changes.read()
        assert seen is not None
        assert (own_lab.server, gone) in seen.deleted
    finally:
        changes.close()


def test_a_namespace_goes_although_it_is_watched(own_lab: Lab) -> None:
    """What hears of it does not keep it: with it goes the other end of its veth. Its cookie is not given again."""
    changes = Changes()
    try:
        changes.watch([own_lab.server])
        first = cookie_of(place(own_lab.server))
        subprocess.run(["ip", "netns", "del", own_lab.server], check=True)
        assert eventually(lambda: program_on(INTERFACE, own_lab.outside) is None)
        own_lab.up()
        assert cookie_of(place(own_lab.server)) not in (first, 0)
    finally:
        changes.close()
