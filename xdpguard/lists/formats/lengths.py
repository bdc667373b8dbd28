# SPDX-License-Identifier: GPL-2.0
"""Find the column that holds the prefix lengths, or netmasks, of another."""

from __future__ import annotations

from xdpguard.errors import UsageError
from xdpguard.lists.formats import names, words
from xdpguard.lists.formats.entries import shown
from xdpguard.lists.formats.layout import Layout
from xdpguard.lists.formats.masks import are_sizes, evidence, length_of
from xdpguard.lists.formats.request import NONE, Request
from xdpguard.lists.formats.rows import Column, Row, cell

_NETWORKS = frozenset((*names.FIRSTS, "network", "net", "subnet", "netblock", "block", "ip_block", "address_block"))
_FEW, _MANY = 4, 256  # how many addresses a network has at least, so that numbers are taken for that


def find_lengths(name: str, found: Layout, rows: list[Row], columns: list[Column], request: Request) -> Layout:
    """Return a layout with its column of prefix lengths, if there is one. Raise UsageError where that is in doubt."""
    if request.prefix_column:
        return found if request.prefix_column == NONE else _asked(name, found, columns, request.prefix_column)
    header = found.header
    if at := next((at for at, word in enumerate(header) if word in names.WILDCARDS and at != found.first), None):
        return found._replace(length=at, wildcard=True)
    for at, word in enumerate(header):
        if word in names.LENGTHS and at != found.first and at < len(columns) and columns[at].filled:
            return found._replace(length=at, wildcard=columns[at].wildcards > 0 == columns[at].masks)
    # Without a name for it, it is next to the addresses; a netmask comes before a length. Elsewhere, it is in doubt.
    for at in sorted(range(len(columns)), key=lambda at: at != found.first + 1):
        if at == found.first:
            continue
        beside = at == found.first + 1
        pairs = [(cell(row, found.first), cell(row, at)) for row in rows]
        networks = found.first < len(header) and header[found.first] in _NETWORKS
        if beside and are_sizes(pairs, _FEW if networks else _MANY):
            raise UsageError(
                f"{name}: column {found.named(at)} may hold how many addresses the networks of column "
                f"{found.named(found.first)} have, or other numbers",
                f"write prefixes; --prefix-column {NONE} takes each address alone",
            )
        if at < len(header) and header[at] in names.COUNTS:
            continue
        weighed = evidence(pairs)
        if weighed == "yes" and beside:
            return found._replace(length=at, wildcard=columns[at].wildcards > 0 == columns[at].masks)
        if weighed == "yes" or (weighed == "unclear" and beside):
            raise UsageError(
                f"{name}: column {found.named(at)} may hold the prefix lengths of column {found.named(found.first)}, "
                "or other numbers",
                f"say which: --prefix-column {at + 1}, or --prefix-column {NONE}",
            )
    return found


def _asked(name: str, found: Layout, columns: list[Column], text: str) -> Layout:
    if text.isdecimal() and 1 <= int(text[:6]) <= len(columns):
        at = int(text) - 1
    elif words.normal(text) in found.header:
        at = found.header.index(words.normal(text))
    else:
        raise UsageError(f"{name}: there is no column {shown(text)}", "name a column, or its number")
    if at == found.first or at >= len(columns):
        raise UsageError(f"{name}: column {found.named(at)} holds no prefix lengths", "name another column")
    if not any(length_of(text) is not None or length_of(text, True) is not None for text in columns[at].filled):
        raise UsageError(f"{name}: column {found.named(at)} holds no prefix lengths", "name another column")
    return found._replace(length=at, wildcard=columns[at].wildcards > 0 == columns[at].masks)
