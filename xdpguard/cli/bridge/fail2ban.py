# SPDX-License-Identifier: GPL-2.0
"""The command bridge fail2ban."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import typer

from xdpguard.cli.session import options

_EXAMPLES = """
\b
Examples:
  xdpguard bridge fail2ban > /etc/fail2ban/action.d/xdpguard.conf

The Debian package installs it. To use it, write in /etc/fail2ban/jail.local, below [DEFAULT] or a jail:

  banaction = xdpguard
  banaction_allports = xdpguard

Bans then drop in the driver, IPv4 and IPv6, each until its end, also if fail2ban is killed; stopping a jail removes its
bans. A local allow rule and what this host needs are never banned: fail2ban's log says so.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(fail2ban)


def fail2ban(context: typer.Context) -> None:
    """Print an action file for fail2ban, which then bans in xdpguard."""
    text = (Path(__file__).parents[2] / "fail2ban" / "action.d" / "xdpguard.conf").read_text(encoding="utf-8")
    found = shutil.which("xdpguard")
    program = [found] if found else [sys.executable, "-P", "-m", "xdpguard.cli"]
    name = options(context).instance.name
    words = shlex.join([*program, *(["--instance", name] if name != "default" else [])])
    typer.echo(text.replace("\nxdpguard = xdpguard\n", "\nxdpguard = " + words.replace("%", "%%") + "\n"), nl=False)
