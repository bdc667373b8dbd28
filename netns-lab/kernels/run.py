# SPDX-License-Identifier: GPL-2.0
"""Boot a Debian 12 machine with one of Debian's own kernels in qemu, run a command in it, and return its output.

The checkout is in /root/xdpguard there, with its virtual environment. virtio_net with 198.18.0.1 is the lab's server;
traffic reaches it from NAMESPACE-outside (198.18.0.2). Without a command, runs a shell. All is discarded at the end.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from kernels.image import KERNELS, SOURCE, image
from kernels.machine import Failed, Nic, machine, shell_words

_EXAMPLES = """\
examples:
  sudo netns-lab/kernels/run -- uname -a
  sudo netns-lab/kernels/run --kernel 6.12 -- .venv/bin/xdpguard doctor
  sudo netns-lab/kernels/run 'netns-lab/demo && cat /proc/version'
  sudo netns-lab/kernels/run --queues 4
"""


def main() -> int:
    """Run the command line; return the command's exit code."""
    parser = argparse.ArgumentParser(
        prog="run", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", choices=KERNELS, default="6.1", help="Debian's kernel (default: 6.1)")
    parser.add_argument("--queues", type=int, default=1, choices=range(1, 9), metavar="N", help="of virtio_net: 1 to 8")
    parser.add_argument("--only-disk", action="store_true", help="make its disk, if there is none, and boot nothing")
    parser.add_argument("command", nargs="*", help="one word: for the shell; several: as they are")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if arguments.only_disk:
        image(arguments.kernel)
        return 0
    try:
        with machine(image(arguments.kernel), Nic(arguments.queues)) as made:
            words = shell_words(arguments.command) if arguments.command else "exec bash -l"
            terminal = ["-t"] if sys.stdin.isatty() else []
            return subprocess.call(made.line(f"cd {SOURCE} && {words}", *terminal))
    except Failed as error:
        sys.stderr.write(f"kernels: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
