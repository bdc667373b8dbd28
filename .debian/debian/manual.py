# SPDX-License-Identifier: GPL-2.0
"""Writes the manual page from the commands' own help, so that it says what they say."""

from __future__ import annotations

import inspect
import sys
import time
from typing import Any

import typer.main

from xdpguard import __version__
from xdpguard.cli.commands import every
from xdpguard.cli.root import app

_FILES = """\
.TP
/etc/xdpguard/default.toml
the configuration, read by attach, run and reload; /etc/xdpguard/NAME.toml of instance NAME
.TP
/var/lib/xdpguard
rules, lists and what is attached
.TP
/var/cache/xdpguard
compiled programs; may be removed at any time
.TP
/sys/fs/bpf/xdpguard
maps and programs in force
"""


def main() -> int:
    """Prints the page."""
    root = typer.main.get_command(app)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    print(f'.TH XDPGUARD 8 "{day}" "xdpguard {__version__}" "System administration"')
    print(".SH NAME\nxdpguard \\- XDP packet-inspection firewall and SYN-flood guard")
    print(".SH SYNOPSIS\n.B xdpguard\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]")
    print(".SH DESCRIPTION")
    print(_text(root.help))
    print(".SH OPTIONS")
    _options(root)
    print(".SH COMMANDS")
    for name, command in _commands(root, ""):
        print(f".SS {_text(name)}")
        print(_text(command.help))
        _options(command)
    print(f".SH FILES\n{_FILES.strip()}")
    return 0


def _commands(group: Any, before: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in every(group):
        if command.hidden:
            continue
        arguments = [
            it.make_metavar() if hasattr(it, "commands") else it.human_readable_name
            for it in command.params
            if it.param_type_name == "argument"
        ]
        if hasattr(command, "commands"):
            found += _commands(command, f"{before}{name} ")
        else:
            found.append((" ".join([before + name, *arguments]), command))
    return found


def _options(command: Any) -> None:
    for option in command.params:
        if option.param_type_name != "option" or getattr(option, "hidden", False):
            continue
        names = ", ".join([*option.opts, *option.secondary_opts])
        value = "" if option.is_flag else f" \\fI{_text(option.metavar or option.type.name.upper())}\\fR"
        print(f".TP\n\\fB{_text(names)}\\fR{value}\n{_text(option.help)}")


def _text(text: str | None) -> str:
    """As roff reads it: its own signs are written as what they are, and paragraphs stay."""
    lines = []
    for line in inspect.cleandoc(text or "").replace("\\", "\\e").replace("-", "\\-").replace("\b", "").splitlines():
        lines.append(("\\&" + line if line[:1] in ".'" else line) if line.strip() else ".PP")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
