# SPDX-License-Identifier: GPL-2.0
"""A wrong `tcp` command gets its exit code and one line with a remedy; so does anything the kernel lacks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.command import Command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trace", "--state", "NOWHERE"], "not a TCP state: 'NOWHERE'"),
        (["trace", "--state", "ESTABLISHED,"], "not a TCP state"),
        (["retrans", "--state", "x" * 5000], "not a TCP state"),
        (["trace", "--local-port", "0"], "not a port"),
        (["trace", "--local-port", "65536"], "not a port"),
        (["trace", "--remote-port", "90-80"], "not a port"),
        (["trace", "--remote-port", "http"], "not a port"),
        (["trace", "--local", "198.51.100.256"], "not an address"),
        (["trace", "--remote", "example.com"], "not an address"),
        (["trace", "--remote", "198.51.100.0/33"], "prefix length"),
        (["trace", "--family", "6", "--remote", "198.51.100.7"], "not an IPv6 address"),
        (["rtt", "--family", "4", "--local", "2001:db8::1"], "not an IPv4 address"),
        (["cwnd", "--local", "198.51.100.7", "--remote", "2001:db8::1"], "no connection can have the ends"),
        (["trace", "--pid", str(1 << 30)], "no process"),
        (["trace", "--netns", "nosuch"], "no network namespace 'nosuch'"),
        (["states", "--netns", "../../proc/1/ns/net"], "no network namespace"),
        (["trace", "--longer", "soon"], "duration"),
        (["trace", "--for", "0s"], "duration"),
        (["trace", "--json", "--csv"], "cannot be combined"),
        (["states", "--watch", "0.001"], "too short"),
        (["states", "--watch", "nan"], "too short"),
        (["states", "--for", "1s"], "--for needs --watch"),
        (["rtt", "--prefix4", "24"], "--by remote"),
        (["rtt", "--interval", "1"], "duration"),
        (["retrans", "--by", "remote"], "--count"),
        (["retrans", "--count", "--prefix6", "48"], "--by remote"),
        (["cwnd", "--every", "2h"], "too long"),
        (["cwnd", "--every", "0.1ms"], "500ms"),
        (["rtt", "--longer", "2h"], "longer than the kernel can count"),
        (["states", "--prefix4", "24"], "--by remote"),
        (["retrans", "--count", "--wide"], "leave one of them out"),
        (["states", "--netns", "pid 4000000000"], "no process 4000000000"),
    ],
)
def test_wrong_usage(command: Command, arguments: list[str], says: str) -> None:
    assert says in command.refused(2, "tcp", *arguments)


@pytest.mark.parametrize(
    "arguments", [["trace", "--family", "5"], ["states", "--prefix4", "33"], ["rtt", "--unit", "s"], ["nosuch"]]
)
def test_wrong_usage_that_typer_finds(command: Command, arguments: list[str]) -> None:
    result = command("tcp", *arguments)
    assert result.code == 2
    assert result.err.strip()


def _without(command: Command, hiding: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a mount namespace of its own, where something is hidden first."""
    line = " ".join(command.line("tcp", *arguments))
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", f"{hiding} && exec {line}"],
        capture_output=True,
        text=True,
        env=command.environment,
        timeout=60,
        check=False,
    )


def _refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 3, done
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("xdpguard: ")
    assert "; " in line
    assert says in line


@pytest.mark.parametrize("name", ["trace", "rtt", "retrans", "cwnd"])
def test_no_tracefs(command: Command, name: str) -> None:
    hiding = "mount -t tmpfs none /sys/kernel"
    _refused(_without(command, hiding, name, "--for", "1s"), "no tracefs at /sys/kernel/tracing")


def test_tracefs_that_is_not_mounted_is_mounted(command: Command, tmp_path: Path) -> None:
    hiding = "mount -t tmpfs none /sys/kernel && mkdir /sys/kernel/tracing /sys/kernel/btf"
    hiding = f"mount --bind /sys/kernel/btf {tmp_path} && {hiding} && mount --bind {tmp_path} /sys/kernel/btf"
    done = _without(command, hiding, "states", "--watch", "0.1", "--for", "300ms")
    assert done.returncode == 0, done
    assert "watching" in done.stderr


@pytest.mark.parametrize(
    ("name", "tracepoint"),
    [
        ("trace", "sock/inet_sock_set_state"),
        ("rtt", "tcp/tcp_probe"),
        ("retrans", "tcp/tcp_retransmit_synack"),
        ("cwnd", "tcp/tcp_probe"),
    ],
)
def test_a_tracepoint_that_is_missing(command: Command, name: str, tracepoint: str) -> None:
    hiding = f"mount -t tmpfs none /sys/kernel/tracing/events/{tracepoint}"
    _refused(_without(command, hiding, name, "--for", "1s"), f"no tracepoint {tracepoint.replace('/', ':')}")


def test_a_kernel_without_type_information(command: Command) -> None:
    """States need none; what tells namespaces apart does, and says so."""
    hiding = "mount -t tmpfs none /sys/kernel/btf"
    _refused(_without(command, hiding, "trace", "--for", "1s"), "BTF")
    done = _without(command, hiding, "states")
    assert done.returncode == 0, done


@pytest.mark.parametrize(
    "arguments",
    [["states", "--watch", "0.1"], ["trace"], ["rtt", "--interval", "100ms"], ["cwnd", "--interval", "100ms"]],
)
def test_a_closed_pipe(command: Command, arguments: list[str]) -> None:
    """The reader has gone before anything is written, and nothing more may ever come."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command.line("tcp", *arguments),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env=command.environment,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr


def test_somebody_without_privileges(command: Command) -> None:
    """Commands say what they need before they try."""
    for arguments in (["states"], ["trace", "--for", "1s"], ["rtt", "--for", "1s"]):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command.line("tcp", *arguments)],
            capture_output=True,
            text=True,
            env=command.environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3, done
        assert "needs root" in done.stderr
