# SPDX-License-Identifier: GPL-2.0
"""What compiles with a program so that C and Python agree: the size of each struct they share, the offset and
size of each field, and the numbers of both.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping

from xdpguard.dataplane.sys import abi, names
from xdpguard.dataplane.sys.layouts import counts, default, filters, guard, rules, tcp
from xdpguard.dataplane.sys.layouts.base import Layout, c_name, fields

MAIN = "xdpguard.c"
# By main file, the structs it shares with Python.
LAYOUTS: Mapping[str, tuple[type[Layout], ...]] = {
    MAIN: tuple(
        it
        for module in (rules, filters, counts, guard, default)
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, Layout) and it is not Layout
    ),
    "egress.c": (default.SentKey,),
    "tcp/handshakes.c": (tcp.Remote,),
    "tcp/states.c": (tcp.Changes,),
    "tcp/trace.c": (tcp.Ends, tcp.Transition),
    "tcp/retrans.c": (tcp.Ends, tcp.Retransmitted),
    "tcp/resent.c": (tcp.Resent,),
    "tcp/rtt.c": (tcp.Group, tcp.Times),
    "tcp/cwnd.c": (tcp.Ends, tcp.CwndSample),
}
# By main file, its macros and constants that Python has, too.
NUMBERS: Mapping[str, Mapping[str, int]] = {
    MAIN: {
        "XG_RULE_NEEDED": abi.RULE_NEEDED,
        "XG_SHADOW_RULES": abi.SHADOW_RULES,
        "XG_SENT_CLIENTS": abi.SENT_CLIENTS,
        "XG_MACS": abi.MACS,
        "XG_ABOVE": abi.ABOVE,
        "XG_ABOVE_PORT": abi.ABOVE_PORT,
        "XG_ABOVE_SHARED": abi.ABOVE_SHARED,
        "XG_LISTS": abi.LISTS,
        "XG_FILTERS": abi.FILTERS,
        "XG_FILTER_LIMITS": abi.FILTER_LIMITS,
        "XG_FILTER_SLOTS": abi.FILTER_SLOTS,
        "XG_FILTER_SETS": abi.FILTER_SETS,
        "XG_FILTER_LACKING": abi.FILTER_LACKING,
        "XG_FILTER_HALF": abi.FILTER_HALF,
        "XG_FILTER_HIGH": abi.FILTER_HIGH,
        "XG_FILTER_SET_SIZE": abi.FILTER_SET_SIZE,
        "XG_FILTER_PLACES": abi.FILTER_PLACES,
        "XG_FILTER_TABLES": abi.FILTER_TABLES,
        "XG_PROBE_BATCH": abi.PROBE_BATCH,
        "XG_KEPT": abi.KEPT,
        "XG_PROGRAM_AFTER": names.CALLED[names.AFTER],
        "XG_PROGRAM_GUARD": names.CALLED[names.GUARD],
        "XG_PROGRAM_DEFAULT": names.CALLED[names.DEFAULT],
        "XG_PROGRAM_FILTERS": names.CALLED[names.FILTERS],
    },
    "tcp/states.c": {"XG_STATE_COUNT": tcp.STATES},
}


def assertions(main: str) -> str:
    """C text of static assertions, to stand behind the bundle of ``bpf/MAIN``; empty when it shares nothing."""
    return asserted(LAYOUTS.get(main, ()), NUMBERS.get(main, {}))


def asserted(layouts: Iterable[type[Layout]], numbers: Mapping[str, int]) -> str:
    """Return static assertions of layouts and of numbers, a line each."""
    lines = [line for layout in layouts for line in _of(layout)]
    lines += [_assertion(name, value, name) for name, value in numbers.items()]
    return "".join(f"{line}\n" for line in lines)


def _of(layout: type[Layout]) -> Iterator[str]:
    struct = f"struct {c_name(layout)}"
    yield _assertion(f"sizeof({struct})", ctypes.sizeof(layout), struct)
    for field in fields(layout):
        named = f"{struct}, {field.name}"
        yield _assertion(f"__builtin_offsetof({named})", field.offset, named)
        yield _assertion(f"sizeof((({struct} *)0)->{field.name})", field.size, named)


def _assertion(expression: str, value: int, what: str) -> str:
    return f'_Static_assert({expression} == {value}, "{what}: Python declares it differently");'
