# SPDX-License-Identifier: GPL-2.0
"""FlowSpec rules as commands of GoBGP: ``gobgp global rib -a ipv4-flowspec add match ... then ...``."""

from __future__ import annotations

import shlex

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec import words
from xdpguard.policy.flowspec.rule import Actions, Component, Prefix, Rule, Value
from xdpguard.policy.matching.tokens import shown

_LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
_WORDS = {
    "destination": Component.DESTINATION,
    "source": Component.SOURCE,
    "protocol": Component.PROTOCOL,
    "port": Component.PORT,
    "destination-port": Component.DESTINATION_PORT,
    "source-port": Component.SOURCE_PORT,
    "icmp-type": Component.ICMP_TYPE,
    "icmp-code": Component.ICMP_CODE,
    "tcp-flags": Component.TCP_FLAGS,
    "packet-length": Component.LENGTH,
    "dscp": Component.DSCP,
    "fragment": Component.FRAGMENT,
    "label": Component.FLOW_LABEL,
}
_NAMES = {component: word for word, component in _WORDS.items()}
_FAMILIES = {"ipv4-flowspec": 4, "ipv6-flowspec": 6}
_MATCH = f"write match and then, of {', '.join(_WORDS)}: match protocol tcp destination-port 80 then discard"
_THEN = "accept, discard, rate-limit BYTES and action sample, terminal or sample-terminal are known"


def written(rule: Rule) -> str:
    """Return the command that announces a rule."""
    parts = ["gobgp", "global", "rib", "-a", f"ipv{rule.version}-flowspec", "add", "match"]
    for component, value in rule.components:
        parts += [_NAMES[component], *_value(rule.version, component, value)]
    return shlex.join([*parts, "then", *_actions(rule.actions)])


def _value(version: int, component: Component, value: Value) -> list[str]:
    if isinstance(value, Prefix):
        return [words.prefix_text(value, version), *([str(value.offset)] if value.offset else [])]
    if component is Component.TCP_FLAGS:
        return [words.bitmask_text(value, _letters)]
    if component is Component.FRAGMENT:
        return [words.bitmask_text(value, words.fragment_names)]
    return [words.numeric_text(value, "==")]


def _letters(value: int) -> str:
    return "".join(letter for letter, bit in _LETTERS.items() if value & bit)


def _actions(actions: Actions) -> list[str]:
    if actions.packets is not None:
        raise UsageError(
            "GoBGP has no words for a limit in packets", "limit bits, such as 10mbit/s, or use the form of ExaBGP"
        )
    found: list[str] = []
    if actions.rate is not None:
        found += ["discard"] if actions.rate == 0 else ["rate-limit", f"{actions.rate:.10g}"]
    kinds = (["sample"] if actions.sample else []) + (["terminal"] if actions.further else [])
    return [*found, *(["action", "-".join(kinds)] if kinds else [])] or ["accept"]


def read(line: str) -> Rule:
    """Parse a command; raise UsageError for what is not one, or has no meaning here."""
    try:
        found = shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"quotes are not closed: {shown(line)}", "close what was opened") from error
    if "match" not in found or "then" not in found[found.index("match") :]:
        raise UsageError(f"no match and then in {shown(line)}", _MATCH)
    start, end = found.index("match"), found.index("then", found.index("match"))
    if "del" in found[:start]:
        raise UsageError("a withdrawal is no rule", "leave it out, and the rule that it withdraws")
    versions = {_FAMILIES[it] for it in found[:start] if it in _FAMILIES}
    components: dict[Component, Value] = {}
    for word, values in _grouped(found[start + 1 : end]):
        component = _WORDS[word]
        if component in components:
            raise UsageError(f"{word} is given twice", "write its values one after the other")
        if component in (Component.DESTINATION, Component.SOURCE):
            if len(values) not in (1, 2):
                raise UsageError(f"{word} takes a prefix, and an offset in IPv6", f"write {word} 192.0.2.0/24")
            version, components[component] = words.prefix(*values)
            versions.add(version)
        else:
            components[component] = words.ops(component, " ".join(values), _flags)
    if len(versions) != 1:
        problem = "IPv4 and IPv6 in one rule" if versions else "the rule does not say its IP version"
        raise UsageError(problem, "write -a ipv4-flowspec or -a ipv6-flowspec, with prefixes of that version")
    return Rule(versions.pop(), tuple(sorted(components.items())), _actions_read(found[end + 1 :]))


def _grouped(found: list[str]) -> list[tuple[str, list[str]]]:
    groups: list[tuple[str, list[str]]] = []
    for word in found:
        if word in _WORDS:
            groups.append((word, []))
        elif not groups:
            raise UsageError(f"{shown(word)} is not a component", _MATCH)
        else:
            groups[-1][1].append(word)
    return groups


def _flags(word: str) -> int | None:
    if all(letter in _LETTERS for letter in word):
        return sum({_LETTERS[letter] for letter in word})
    return None


def _actions_read(found: list[str]) -> Actions:
    actions = Actions()
    rest = list(found)
    while rest:
        word = rest.pop(0)
        if word == "accept":
            continue
        if word == "discard":
            actions = actions._replace(rate=0)
        elif word == "rate-limit" and rest:
            actions = actions._replace(rate=words.rate(rest.pop(0)))
            if rest[:1] == ["as"]:
                rest = rest[2:]
        elif word == "action" and rest:
            actions = words.with_kinds(actions, rest.pop(0))
        else:
            raise UsageError(f"the action {shown(word)} has no meaning here", _THEN)
    return actions
