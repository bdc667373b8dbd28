# SPDX-License-Identifier: GPL-2.0
"""What people type who know other tools, and what it is called here: commands, and options."""

from __future__ import annotations

from collections.abc import Iterable


def _same(words: str, sentence: str) -> dict[str, str]:
    return dict.fromkeys(words.split(), sentence)


# By the command that is given a word it does not have: the word, and what to type.
COMMANDS: dict[str, dict[str, str]] = {
    "xdpguard": {
        **_same("ban deny drop reject blacklist", "block drops packets from a source"),
        **_same("unban undrop", "unblock removes a block"),
        **_same("accept permit whitelist", "allow lets a source through"),
        **_same("load start enable up", "attach IFACE begins, as a service: run"),
        **_same("unload stop disable down", "detach IFACE ends it"),
        **_same("show list ls info", "status, rules, lists show and filter list show what there is"),
        **_same("bans banned blocks blocked", "rules --kind block shows what is blocked"),
        **_same("interfaces ifaces links devices", "status shows what is attached"),
        **_same("log logs tail monitor watch", "events --follow shows drops, top the traffic"),
        **_same("sniff tcpdump pcap", "capture FILE writes dropped packets"),
        **_same("counters count", "stats shows the counters"),
        **_same("who clients attackers talkers", "syns --by source shows who tries to connect, top who sends"),
        **_same("ss netstat sockets connections", "tcp states shows the sockets"),
        **_same("search find query lookup", "explain ADDRESS tells what is known about an address"),
        **_same("test check verify", "explain shows what happens to a packet, doctor what this machine lacks"),
        **_same("open close port ports", "block --port PORT closes a port, unblock --port PORT opens it again"),
        **_same("export save dump", "rules --export FILE writes rules and filters"),
        "restore": "import FILE reads rules and filters",
        **_same("limit ratelimit rate-limit", "filter add NAME MATCH --limit RATE limits packets"),
        **_same("flush clear reset", "unblock --all removes all blocks"),
        **_same("set synproxy syncookies", "guard set KEY=VALUE changes the SYN guard, guard show shows it"),
        **_same("reload restart", "run reads its file again after SIGHUP: systemctl reload xdpguard"),
        **_same("rollback revert", "undo undoes the last change"),
        **_same("commit keep", "confirm keeps a change made with --confirm"),
        **_same("install uninstall update", "help upgrade tells how to install, upgrade and remove it"),
        "version": "--version shows it",
    },
    "xdpguard lists": {
        **_same("add create new import", "lists load NAME FILE loads a list"),
        **_same("update refresh reload", "lists load NAME FILE, once more, swaps the list atomically"),
        **_same("clear flush", "lists remove NAME removes a list"),
    },
    "xdpguard filter": {
        **_same("edit change replace update", "filter add NAME MATCH --replace replaces a filter"),
        **_same("create new append insert", "filter add NAME MATCH adds a filter"),
        **_same("clear flush", "filter remove NAME... removes filters"),
    },
    "xdpguard guard": {
        **_same("on enable start auto", "guard set mode=auto lets it act when there is a flood"),
        **_same("off disable stop", "guard set mode=off ends it"),
        **_same("mode policy config key", "guard set KEY=VALUE changes the policy, guard show shows it"),
        **_same("status state get list ls", "guard show shows the policy and the state"),
    },
    "xdpguard default": {
        **_same("deny block reject enforce", "default drop counts first; with --enforce it drops"),
        **_same("accept allow off", "default pass lets packets pass"),
        **_same("status state get list ls", "default show shows it"),
    },
    "xdpguard tcp": {
        **_same("syn syns", "syns shows who tries to connect"),
        **_same("listeners listen queues backlog", "tcp states --by listener shows queues"),
        **_same("sockets connections list ls show", "tcp states shows the sockets"),
        **_same("latency ping", "tcp rtt shows round-trip times"),
    },
    "xdpguard fleet": {
        **_same("block unblock allow disallow", "block TARGET --fleet, and so on, are for the whole fleet"),
        **_same("show list ls hosts members info", "fleet status shows the hosts"),
    },
    "xdpguard bridge": {
        **_same("list ls status", "bridge show shows the bridges"),
        **_same("remove rm delete stop", "bridge forget NAME removes what a bridge holds"),
    },
    "xdpguard config": {
        **_same("test validate verify lint", "config check FILE checks a file"),
        **_same("show get set edit keys", "help configuration tells every key of the file"),
        "reload": "run reads its file again after SIGHUP: systemctl reload xdpguard",
    },
}

# By an option: what else it is called. Offered only where the command has the option.
_OPTIONS: dict[str, str] = {
    "--for": "--time --duration --timeout --expires --expire --until --ttl",
    "--reason": "--comment --message --note --description -m",
    "--port": "--ports --dport --protocol --proto --destination-port -p",
    "--watch": "--live --refresh --repeat -w",
    "--follow": "--live --tail -f",
    "--output": "--format --out",
    "--shadow": "--dry-run --simulate --count-only",
    "--observe": "--dry-run --simulate",
    "--interface": "--iface --device --dev",
    "--drop": "--block --deny --reject",
    "--pass": "--allow --accept",
    "--limit": "--rate --ratelimit",
    "--top": "--limit --head --most",
    "--kind": "--type",
    "--match": "--grep --search --origin --target",
    "--all": "--everything -a",
    "--yes": "-y",
    "--version": "-V",
    "--color": "--colour",
}


def option(typed: str, there: Iterable[str]) -> str:
    """Return what an option is called here; empty if that is not known. ``there``: what the command has."""
    has = set(there)
    return next((name for name, words in _OPTIONS.items() if name in has and typed in words.split()), "")
