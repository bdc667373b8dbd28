# SPDX-License-Identifier: GPL-2.0
"""FlowSpec rules as GoBGP shows them in JSON: ``gobgp -j global rib -a ipv4-flowspec``, and the same of `monitor`."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec import words
from xdpguard.policy.flowspec.rule import BITMASKS, PREFIXES, Actions, Component, Op, Rule, Value

_COMMUNITIES, _REACHABLE = 16, 14  # path attributes: extended communities, RFC 4360; MP_REACH_NLRI, RFC 4760
_ACTION_TYPES = (0x80, 0x81, 0x82)  # of communities that are actions, RFC 8955, 7
_REDIRECTS = (0x0800, 0x010C, 0x000C)  # type and subtype: to a next hop, of drafts
_BYTES, _ACTION, _PACKETS = 6, 7, 12  # their subtypes
_AND = 0x40
_VERSIONS = {1: 4, 2: 6}  # address family numbers


class _Op(Struct):
    op: int
    value: int


class _Prefix(Struct):
    prefix: str


class _Part(Struct):
    type: int
    value: _Prefix | list[_Op]
    offset: int = 0


class _Nlri(Struct):
    value: list[_Part]


class _Path(Struct):
    nlri: _Nlri
    attrs: list[dict[str, Any]]
    withdrawal: bool = False


class _Community(Struct):
    type: int = 0
    subtype: int = 0
    rate: float | None = None
    terminal: bool = False
    sample: bool = False
    value: Any = None


def read(values: Iterable[object]) -> Iterator[tuple[int, str, Rule]]:
    """Parse JSON values; yield the rules that are not withdrawn later, with their numbers."""
    found: dict[tuple[object, ...], tuple[int, str, Rule]] = {}
    for number, path in enumerate(_paths(values), 1):
        try:
            parsed = msgspec.convert(path, _Path)
            made = _rule(parsed)
        except msgspec.ValidationError as error:
            raise UsageError(f"rule {number}: not a path of GoBGP: {error}", "write what gobgp -j shows") from error
        except UsageError as error:
            raise UsageError(f"rule {number}: {error}", error.remedy) from error
        found.pop(made[:2], None)
        if not parsed.withdrawal:
            found[made[:2]] = number, "", made
    yield from found.values()


def _paths(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, dict):
            # A rule with its paths, of which one is the best.
            for paths in value.values():
                some = paths if isinstance(paths, list) else [paths]
                yield next((it for it in some if isinstance(it, dict) and it.get("best")), some[0] if some else None)
        else:
            yield from value if isinstance(value, list) else [value]


def _rule(path: _Path) -> Rule:
    family = next((it.get("afi") for it in path.attrs if it.get("type") == _REACHABLE), None)
    version = _VERSIONS.get(family) if isinstance(family, int) else None
    components: dict[Component, Value] = {}
    for part in path.nlri.value:
        if part.type not in list(Component):
            raise UsageError(f"a component of type {part.type} has no meaning here", "leave the rule out")
        component = Component(part.type)
        if isinstance(part.value, _Prefix) != (component in PREFIXES):
            raise UsageError(f"not a value of {component.name.lower()}", "write what gobgp -j shows")
        if isinstance(part.value, _Prefix):
            version, components[component] = words.prefix(part.value.prefix, str(part.offset) if part.offset else "")
        else:
            components[component] = tuple(_op(component, it, at) for at, it in enumerate(part.value))
    if version is None:
        raise UsageError("the rule does not say its IP version", "write what gobgp -j shows, attributes included")
    return Rule(version, tuple(sorted(components.items())), _actions(path))


def _op(component: Component, op: _Op, at: int) -> Op:
    bits = 3 if component in BITMASKS else 7
    if not 0 <= op.value < 1 << 32:
        raise UsageError(f"not a value of {component.name.lower()}: {op.value}", "write what gobgp -j shows")
    return Op(at > 0 and bool(op.op & _AND), op.op & bits, op.value)


def _actions(path: _Path) -> Actions:
    actions = Actions()
    values = [it.get("value", []) for it in path.attrs if it.get("type") == _COMMUNITIES]
    for one in itertools.chain.from_iterable(msgspec.convert(values, list[list[_Community]])):
        if one.type << 8 | one.subtype in _REDIRECTS:
            raise UsageError("a redirection to a next hop has no meaning here", "leave the rule out")
        if one.type not in _ACTION_TYPES:
            continue
        if one.subtype == _BYTES and one.rate is not None:
            actions = actions._replace(rate=words.rate(str(one.rate)))
        elif one.subtype == _ACTION:
            actions = actions._replace(sample=one.sample, further=one.terminal)
        elif one.subtype == _PACKETS:
            actions = actions._replace(packets=words.rate(str(_float(one.value))))
        else:
            raise UsageError(f"the action of subtype {one.subtype} has no meaning here", "leave the rule out")
    return actions


def _float(value: object) -> float:
    """Return the rate of a community that GoBGP 3 does not know: its bytes behind the type, the last four a float."""
    try:
        raw = base64.b64decode(str(value), validate=True)
        return float(struct.unpack("!f", raw[-4:])[0])
    except (ValueError, struct.error) as error:
        raise UsageError("not a rate in packets", "write what gobgp -j shows") from error
