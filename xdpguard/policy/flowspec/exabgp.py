# SPDX-License-Identifier: GPL-2.0
"""FlowSpec rules in the configuration of ExaBGP: ``route NAME { match { ... } then { ... } }``."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec import words
from xdpguard.policy.flowspec.rule import PREFIXES, Actions, Component, Op, Prefix, Rule, Value
from xdpguard.policy.matching.tokens import shown

_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "push": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
_SYNONYMS = {**_FLAGS, "psh": 8, "urgent": 32, "ecn": 64}
_NAMES = {
    Component.DESTINATION: "destination",
    Component.SOURCE: "source",
    Component.PROTOCOL: "protocol",
    Component.PORT: "port",
    Component.DESTINATION_PORT: "destination-port",
    Component.SOURCE_PORT: "source-port",
    Component.ICMP_TYPE: "icmp-type",
    Component.ICMP_CODE: "icmp-code",
    Component.TCP_FLAGS: "tcp-flags",
    Component.LENGTH: "packet-length",
    Component.DSCP: "dscp",
    Component.FRAGMENT: "fragment",
    Component.FLOW_LABEL: "flow-label",
}
_NAMES6 = {**_NAMES, Component.PROTOCOL: "next-header", Component.DSCP: "traffic-class"}
_WORDS = {word: component for names in (_NAMES, _NAMES6) for component, word in names.items()}
_WORDS |= {f"{_NAMES[it]}-ipv{version}": it for it in PREFIXES for version in (4, 6)}
# The same numbers in rules of IPv6.
_ICMP_TYPES = {
    "echo-reply": 0, "unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8, "router-advertisement": 9,
    "router-solicit": 10, "time-exceeded": 11, "parameter-problem": 12, "timestamp": 13, "timestamp-reply": 14,
    "info-request": 15, "info-reply": 16, "mask-request": 17, "mask-reply": 18, "traceroute": 30,
    "experimental-mobility": 41, "extended-echo-request": 42, "extended-echo-reply": 43, "experimental-one": 253,
    "experimental-two": 254,
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z-]*")
# Words that only rules of one IP version have, for rules without a prefix.
_OF_VERSION = {"protocol": 4, "dscp": 4, "next-header": 6, "traffic-class": 6, "flow-label": 6}
_EVERYTHING6 = Prefix(0, 0)
_PACKETS = bytes.fromhex("800c")  # traffic-rate-packets, RFC 8955, 7.2: AS number, and a float
_TOKEN = re.compile(r"\s*(?:#[^\n]*\n?\s*)*([{};]|\[[^\]{};]*\]|[^\s{};\[\]#]+)")
_THEN = "accept, discard, rate-limit BYTES and action sample, terminal or sample-terminal are known"


def written(rule: Rule, name: str) -> str:
    """Return the route of a rule."""
    names = _NAMES if rule.version == 4 else _NAMES6
    components = rule.components
    if rule.version == 6 and not any(component in PREFIXES for component, _ in components):
        # ExaBGP tells the version by the prefixes.
        components = ((Component.DESTINATION, _EVERYTHING6), *components)
    match = " ".join(f"{names[component]} {_value(rule.version, component, value)};" for component, value in components)
    then = " ".join(f"{it};" for it in _actions(rule.actions))
    return f"route {name} {{ match {{ {match} }} then {{ {then} }} }}"


def _value(version: int, component: Component, value: Value) -> str:
    if isinstance(value, Prefix):
        return words.prefix_text(value, version) + (f"/{value.offset}" if version == 6 else "")
    if component is Component.TCP_FLAGS:
        text = words.bitmask_text(value, _flag_names)
    elif component is Component.FRAGMENT:
        text = words.bitmask_text(value, words.fragment_names)
    else:
        text = words.numeric_text(value, "=")
    return f"[ {text} ]" if " " in text else text


def _flag_names(value: int) -> str:
    return "+".join(name for name, bit in _FLAGS.items() if value & bit)


def _actions(actions: Actions) -> Iterator[str]:
    if actions.rate == 0:
        yield "discard"
    elif actions.rate is not None:
        yield f"rate-limit {max(1, round(actions.rate))}"
    if actions.packets is not None:
        yield f"extended-community [ 0x{(_PACKETS + struct.pack('!Hf', 0, actions.packets)).hex()} ]"
    kinds = (["sample"] if actions.sample else []) + (["terminal"] if actions.further else [])
    if kinds:
        yield f"action {'-'.join(kinds)}"
    elif actions.rate is None and actions.packets is None:
        yield "accept"


def read(text: str) -> Iterator[tuple[int, str, Rule]]:
    """Parse the routes of a configuration or of API commands; yield each with its line and its name."""
    tokens = list(_tokens(text))
    at = 0
    while at < len(tokens):
        line, word = tokens[at]
        at += 1
        if word != "route":
            continue
        if "withdraw" in (it for _, it in tokens[max(0, at - 3) : at - 1]):
            raise UsageError(f"line {line}: a withdrawal is no rule", "leave it out, and the route that it withdraws")
        name = ""
        if at < len(tokens) and tokens[at][1] != "{":
            name = tokens[at][1]
            at += 1
        at, body = _block(tokens, at, line)
        try:
            yield line, name, _route(body)
        except UsageError as error:
            raise UsageError(f"line {line}: {error}", error.remedy) from error


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    at, line = 0, 1
    while (found := _TOKEN.match(text, at)) is not None:
        line += text.count("\n", at, found.start(1))
        yield line, found[1]
        line += text.count("\n", found.start(1), found.end())
        at = found.end()
    rest = re.sub(r"#[^\n]*", "", text[at:]).strip()
    if rest:
        raise UsageError(f"line {line}: {shown(rest)} has no meaning here", "close the brackets that were opened")


def _block(tokens: list[tuple[int, str]], at: int, line: int) -> tuple[int, list[str]]:
    """Return the place behind a block in braces, and the words in it."""
    depth = 0
    body: list[str] = []
    for place in range(at, len(tokens)):
        word = tokens[place][1]
        depth += (word == "{") - (word == "}")
        if depth == 0 and word == "}":
            return place + 1, body[1:]
        body.append(word)
        if depth == 0:
            break
    raise UsageError(f"line {line}: a route without a block that is closed", "write route NAME { match { } then { } }")


def _route(body: list[str]) -> Rule:
    section = ""
    statement: list[str] = []
    components: dict[Component, Value] = {}
    actions = Actions()
    versions: set[int] = set()
    for word in body:
        if word == "{":
            section, statement = statement[-1] if statement else "", []
        elif word not in (";", "}"):
            statement.append(word)
        elif statement:
            if section == "match":
                versions |= component(statement, components)
            elif section == "then":
                actions = _action(actions, statement)
            elif statement[0] not in ("rd", "route-distinguisher", "next-hop"):
                raise UsageError(f"{shown(statement[0])} has no meaning here", "write match { } and then { }")
            statement = []
    if len(versions) > 1:
        raise UsageError("IPv4 and IPv6 in one rule", "write two routes")
    return Rule(versions.pop() if versions else 4, tuple(sorted(components.items())), actions)


def component(statement: list[str], components: dict[Component, Value]) -> set[int]:
    """Parse a component into ``components``; return the IP version that it shows, if it shows one."""
    word, values = statement[0], statement[1:]
    if word not in _WORDS:
        raise UsageError(f"{shown(word)} is not a component", f"known are {', '.join(_NAMES.values())}")
    its = _WORDS[word]
    if its in components:
        raise UsageError(f"{word} is given twice", "write several values in brackets: [ =80 =443 ]")
    text = " ".join(it.strip("[]") for it in values)
    if its in PREFIXES:
        address, _, lengths = text.strip().partition("/")
        length, _, offset = lengths.partition("/")
        version, components[its] = words.prefix(f"{address}/{length}" if length else address, offset)
        return {version}
    if its is Component.ICMP_TYPE:
        text = _NAME.sub(lambda it: str(_ICMP_TYPES.get(it[0], it[0])), text)
    found: tuple[Op, ...] = words.ops(its, text, lambda it: words.named(it, _SYNONYMS))
    components[its] = found
    return {_OF_VERSION[word]} if word in _OF_VERSION else set()


def _action(actions: Actions, statement: list[str]) -> Actions:
    word, values = statement[0], statement[1:]
    if word in ("accept", "community", "large-community"):
        return actions
    if word == "discard":
        return actions._replace(rate=0)
    if word == "rate-limit" and values:
        return actions._replace(rate=words.rate(values[0]))
    if word == "action" and values:
        return words.with_kinds(actions, values[0])
    if word == "extended-community":
        for value in " ".join(values).strip("[] ").split():
            raw = bytes.fromhex(value[2:]) if re.fullmatch("0x[0-9A-Fa-f]{16}", value) else b""
            if raw[:2] != _PACKETS:
                raise UsageError(f"the community {shown(value)} has no meaning here", _THEN)
            actions = actions._replace(packets=words.rate(str(struct.unpack("!f", raw[4:])[0])))
        return actions
    raise UsageError(f"the action {shown(word)} has no meaning here", _THEN)
