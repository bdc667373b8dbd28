# SPDX-License-Identifier: GPL-2.0
"""lab up | down | status | shell [server|outside]: manage the lab by hand."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from topology import INTERFACE, OUTSIDE4, OUTSIDE6, SERVER4, SERVER6, Lab

_EXAMPLES = f"""\
examples:
  sudo netns-lab/lab up
  sudo netns-lab/lab shell server    then: python3 -m http.server 80 --bind {SERVER4} &
  sudo .venv/bin/xdpguard attach {INTERFACE} --netns xglab-server
  sudo netns-lab/lab shell outside   then: curl http://{SERVER4}/
  sudo netns-lab/lab down
"""


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="xglab", help="prefix of the namespaces (default: xglab)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the lab, or what is missing of it")
    commands.add_parser("down", help="remove it")
    commands.add_parser("status", help="say what there is; exit 1 when it is not up")
    shell = commands.add_parser("shell", help="a shell in one of the namespaces")
    shell.add_argument("where", nargs="?", choices=["server", "outside"], default="server")
    arguments = parser.parse_args()

    # If interrupted, the lab removes what it has created.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lab = Lab(arguments.name)
    if arguments.command == "up":
        lab.up()
    elif arguments.command == "down":
        lab.down()
    if arguments.command == "shell":
        if not lab.is_up():
            sys.stderr.write("the lab is not up: netns-lab/lab up\n")
            return 1
        namespace = lab.server if arguments.where == "server" else lab.outside
        environment = os.environ | {"PS1": f"{namespace}# "}
        return subprocess.call(["ip", "netns", "exec", namespace, os.environ.get("SHELL", "/bin/sh")], env=environment)
    return _status(lab, wanted=arguments.command != "down")


def _status(lab: Lab, wanted: bool) -> int:
    if lab.is_up():
        print(
            f"up: {lab.server} ({SERVER4}, {SERVER6}) and {lab.outside} ({OUTSIDE4}, {OUTSIDE6}), both on {INTERFACE}"
        )
    else:
        print("down")
    return 0 if lab.is_up() == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
