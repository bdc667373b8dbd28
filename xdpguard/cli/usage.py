# SPDX-License-Identifier: GPL-2.0
"""What the parser of the command line refuses, as errors in the style of all others: a sentence and a remedy."""

from __future__ import annotations

import re
from typing import Any

from xdpguard.errors import UsageError

_SUGGESTED = re.compile(r" ?\((Possible options: .*|Did you mean .*\?)\)$| (Did you mean .*\?)$")
_UNKNOWN = re.compile(r"No such command '([^']*)'")
# What is of an interface, typed at a command that is for a whole instance.
_PLACE = ("--netns", "--interface", "-i")
# What other tools call it.
_ELSEWHERE = {
    **dict.fromkeys(("ban", "deny", "drop", "reject"), "block drops packets from a source"),
    **dict.fromkeys(("unban", "undrop"), "unblock removes a block"),
    **dict.fromkeys(("accept", "permit", "whitelist"), "allow lets a source through"),
    **dict.fromkeys(("load", "start", "enable", "up"), "attach IFACE begins, as a service: run"),
    **dict.fromkeys(("unload", "stop", "disable", "down"), "detach IFACE ends it"),
    **dict.fromkeys(("show", "list", "ls", "info"), "status, rules, lists show and filter list show what there is"),
    **dict.fromkeys(("log", "logs", "tail", "monitor", "watch"), "events --follow shows drops, top the traffic"),
    **dict.fromkeys(("export", "save", "dump"), "rules --export FILE writes rules and filters"),
    **dict.fromkeys(("restore",), "import FILE reads rules and filters"),
    **dict.fromkeys(("limit", "ratelimit", "rate-limit"), "filter add NAME MATCH --limit RATE limits packets"),
    **dict.fromkeys(("flush", "clear", "reset"), "unblock --all removes all blocks"),
    "version": "--version shows it",
}
_RULES = ("block", "unblock", "allow", "disallow", "rules", "lists", "filter")


def refused(error: Exception) -> UsageError | None:
    """Return what to tell of an exception of the parser; None if it is another, or the help that takes the place of a
    missing command.
    """
    words = getattr(error, "format_message", None)
    if words is None or type(error).__name__ == "NoArgsIsHelpError":
        return None
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else "xdpguard"
    message = words().strip()
    unknown = _UNKNOWN.match(message)
    if unknown and path == "xdpguard" and (instead := _ELSEWHERE.get(unknown[1])):
        return UsageError(f"no such command '{unknown[1]}'", f"xdpguard {instead}")
    suggested = _SUGGESTED.search(message)
    see = f"see {path} --help"
    if suggested:
        message = message[: suggested.start()]
        offered = (suggested[1] or suggested[2]).removeprefix("Possible options: ")
        mean = offered if offered.startswith("Did you") else f"did you mean {offered}?"
        see = f"{mean[:1].lower()}{mean[1:]} {see}"
    name = getattr(error, "option_name", "")
    if name in _PLACE and any(word in _RULES for word in path.split()[1:2]) and "No such option" in message:
        return UsageError(
            f"{path} has no {name}: what it changes or shows is for every interface of the instance",
            "leave it out, or keep other rules in another instance: --instance NAME",
        )
    if name == "--port" and path.split()[-1] in ("allow", "disallow"):
        remedy = "use a filter: xdpguard filter add NAME 'ip saddr ADDRESS tcp dport PORT' --pass"
        return UsageError("a rule joins no source and port, and allows sources only", remedy)
    message = message.rstrip(".")
    return UsageError(message[:1].lower() + message[1:], see)
