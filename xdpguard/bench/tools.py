# SPDX-License-Identifier: GPL-2.0
"""Other tools that drop packets by source: xdp-filter, nftables sets, ipset; only in the bench's namespaces."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from xdpguard.bench.packets import CLOSED_PORT, SOURCES, Family, texts
from xdpguard.bench.wire import Lab
from xdpguard.bench.workspace import program
from xdpguard.closeable import opened
from xdpguard.dataplane.sys import kernel

SET = "bench"
_PATIENCE = 600  # seconds; ten million elements take nft most of two minutes
# xdp-filter's own limit on addresses per family is also the number of our random sources.
_XDP_FILTER_MAPS: dict[Family, str] = {4: "filter_ipv4", 6: "filter_ipv6"}


class Unavailable(Exception):
    """This machine lacks something; the message says what."""


def need(tool: str) -> None:
    """Raise Unavailable if a tool is not installed."""
    if not shutil.which(tool):
        raise Unavailable(f"{tool} is not installed")


def run(lab: Lab, command: Sequence[str]) -> None:
    """Run a tool in the server's namespace. Raise Unavailable with its output if it fails: a module may be missing."""
    try:
        lab.run(lab.server, command, timeout=_PATIENCE)
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout or "").strip().splitlines()
        raise Unavailable(f"{command[0]} failed: {words[0] if words else error}") from error


@contextmanager
def xdp_filter(lab: Lab, denied: dict[Family, bytes]) -> Iterator[int]:
    """Run xdp-filter on the server's interface, dropping packed sources and a port; yield its program."""
    need("xdp-filter")
    first = [texts(family, packed)[0] for family, packed in denied.items()]
    # `ip netns exec` hides the BPF file system, so it gets one of its own, whose pins end with this one shell. The
    # dispatcher, which lets other programs run beside it, would cost a few ns, and prevent it from being called.
    lines = [
        "mount -t bpf bpf /sys/fs/bpf",
        f"LIBXDP_SKIP_DISPATCHER=1 xdp-filter load -f ipv4,ipv6,tcp,udp {lab.interface}",
        *(f"xdp-filter ip -m src {address}" for address in first),
        f"xdp-filter port -m dst -p tcp {CLOSED_PORT}",
    ]
    run(lab, ["sh", "-c", " && ".join(lines)])
    with opened(program(lab, lab.interface)) as descriptor:
        for family, packed in denied.items():
            _fill(descriptor, family, packed)
        yield descriptor
        detach(lab)


def detach(lab: Lab) -> None:
    """Detach any program from the server's interface."""
    for mode in ("xdpdrv", "xdpgeneric"):
        lab.run(lab.server, ["ip", "link", "set", "dev", lab.interface, mode, "off"], check=False)


def _fill(descriptor: int, family: Family, packed: bytes) -> None:
    """Add every source as the command added the first: ten thousand commands would take a minute."""
    for number in kernel.program_info(descriptor).map_ids:
        with opened(kernel.map_by_id(number)) as found:
            info = kernel.map_info(found)
            if info.name == _XDP_FILTER_MAPS[family]:
                value = kernel.lookup(found, packed[: info.key_size], info.value_size * kernel.possible_cpus())
                if value is not None:
                    kernel.update_batch(found, packed, value * SOURCES, SOURCES)


def nft_file(path: Path, addresses: Path, family: str, chain: str) -> None:
    """Write a table for nft -f: a set with the addresses of a file, and a chain that drops these sources."""
    # A set without intervals is faster, both to load and to look up.
    elements = ",".join(addresses.read_text(encoding="ascii").split())
    path.write_text(
        f"table {family} {SET} {{\n set denied {{ type ipv4_addr; elements = {{ {elements} }} }}\n"
        f" chain drop_denied {{ {chain}; policy accept; ip saddr @denied drop; }}\n}}\n",
        encoding="ascii",
    )


def nft_ingress(lab: Lab) -> tuple[str, str]:
    """Return family and hook of a chain at the first netfilter hook a frame reaches."""
    return "netdev", f'type filter hook ingress device "{lab.interface}" priority 0'


def nft_raw() -> tuple[str, str]:
    """Return family and hook of a chain before connection tracking."""
    return "ip", "type filter hook prerouting priority raw"


def ipset_file(path: Path, addresses: Path, count: int) -> None:
    """Write a set for ipset restore, created at its final size, as a saved one would be."""
    create = f"create {SET} hash:ip hashsize {max(64, count // 2)} maxelem {max(count, 1)}\n"
    with addresses.open(encoding="ascii") as lines, path.open("w", encoding="ascii") as file:
        file.write(create)
        file.writelines(f"add {SET} {line}" for line in lines)


def iptables(lab: Lab, change: Literal["-A", "-D"]) -> None:
    """Add or remove the rule that drops the sources in the ipset before connection tracking."""
    run(lab, ["iptables", "-t", "raw", change, *f"PREROUTING -m set --match-set {SET} src -j DROP".split()])
