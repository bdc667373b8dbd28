# SPDX-License-Identifier: GPL-2.0
"""Send a flood from one end of the lab to the other: the command line of xdpguard/bench/flood.py."""

from __future__ import annotations

import argparse
import ipaddress
import json
import socket
import sys

from topology import INTERFACE, SERVER4, SERVER6, SPOOFED4, SPOOFED6

from xdpguard.bench.flood import KINDS, MAX_COUNT, MAX_SECONDS, Flood, send
from xdpguard.errors import XdpguardError

_EXAMPLES = """\
examples (in the lab, as root):
  .venv/bin/python netns-lab/flood.py syn --port 80 --seconds 5
  .venv/bin/python netns-lab/flood.py udp --source 198.18.0.10 --rate 100000 --count 500000
  .venv/bin/python netns-lab/flood.py syn -6 --source 2001:db8::/96
"""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="flood.py", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--netns", default="xglab-outside", help="namespace to send from (default: xglab-outside)")
    parser.add_argument("--interface", default=INTERFACE, help=f"its interface (default: {INTERFACE})")
    parser.add_argument("-6", dest="ipv6", action="store_true", help="IPv6")
    parser.add_argument("--source", help="address, or prefix to draw sources from (default: everything)")
    parser.add_argument("--to", dest="destination", help="destination (default: the lab's server)")
    parser.add_argument("--port", type=int, default=80, help="destination port (default: 80)")
    parser.add_argument("--size", type=int, default=60, help="frame size for udp, bytes (default: 60)")
    parser.add_argument("--rate", type=int, default=0, help="packets a second (default: as fast as it goes)")
    parser.add_argument("--seconds", type=float, default=5.0, help=f"at most (default: 5, up to {MAX_SECONDS:.0f})")
    parser.add_argument("--count", type=int, default=MAX_COUNT, help="at most this many packets")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    source = given.source or (SPOOFED6 if given.ipv6 else SPOOFED4)
    destination = given.destination or (SERVER6 if given.ipv6 else SERVER4)
    if not 60 <= given.size <= 1500 or not 0 <= given.port <= 65_535 or given.rate < 0:
        parser.error("--size goes from 60 to 1500, --port from 0 to 65535, --rate from 0")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in destination else socket.AF_INET, destination)
        ipaddress.ip_network(source)
    except (OSError, ValueError) as error:
        parser.error(f"not an address or prefix: {error}")
    flood = Flood(given.kind, source, destination, given.port, given.size, given.rate, given.seconds, given.count)
    try:
        done = send(flood, given.netns, given.interface)
    except XdpguardError as error:
        sys.exit(f"flood: {error}; {error.remedy}")
    rate = done.packets / done.seconds if done.seconds else 0.0
    if given.json:
        print(json.dumps({"packets": done.packets, "lost": done.lost, "seconds": done.seconds, "rate": rate}))
    else:
        print(
            f"sent {done.packets:,} packets in {done.seconds:.2f} s: {rate / 1e6:.2f} M packets/s, {done.lost:,} lost"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
