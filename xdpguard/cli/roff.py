# SPDX-License-Identifier: GPL-2.0
"""Text for manual pages: escapes, and Markdown as roff with the macros of man(7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

EXAMPLE, END = ".PP\n.RS 4\n.nf", ".fi\n.RE"
# Without these, groff prints typographical signs that a shell does not understand.
_SIGNS = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})
_FONTS = {"strong_open": "\\fB", "em_open": "\\fI", "strong_close": "\\fR", "em_close": "\\fR"}


def escaped(text: str) -> str:
    """Return a text as roff prints it unchanged."""
    return "\n".join(("\\&" if line[:1] == "." else "") + line.translate(_SIGNS) for line in text.split("\n"))


def text_of(paragraph: str) -> str:
    """Return a paragraph of a help, to be filled."""
    return escaped(" ".join(paragraph.split()))


def from_markdown(text: str) -> list[str]:
    """Return the lines of a topic, without its title. It has headings, paragraphs, flat lists, code and tables."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(text.partition("\n")[2])
    lines = [".SH DESCRIPTION"] if tokens and tokens[0].type != "heading_open" else []
    lines += _lines(tokens)
    return lines


def _lines(tokens: list[Token]) -> Iterator[str]:
    marks: list[int | None] = []  # of the lists that are open: the number of the next item, None for bullets
    opened = cell = ""
    for token in tokens:
        kind = token.type
        if kind in ("bullet_list_open", "ordered_list_open"):
            marks.append(1 if kind.startswith("ordered") else None)
        elif kind in ("bullet_list_close", "ordered_list_close"):
            marks.pop()
        elif kind == "list_item_open":
            number = marks[-1]
            opened = ".IP \\(bu 2" if number is None else f".IP {number}. 4"
            marks[-1] = None if number is None else number + 1
        elif kind == "fence":
            yield f"{EXAMPLE}\n{escaped(token.content.rstrip())}\n{END}"
        elif kind == "heading_open":
            opened = ".SH" if token.tag == "h2" else ".SS"
        elif kind in ("th_open", "td_open"):
            cell = kind
        elif kind in ("thead_close", "tr_close"):
            opened = ""
        elif kind == "inline" and cell:
            if cell == "td_open":
                yield from _cell(opened, _inline(token))
                opened = "second"
            cell = ""
        elif kind == "inline":
            said = _inline(token)
            yield f"{opened} {said.upper()}" if opened in (".SH", ".SS") else f"{opened or '.PP'}\n{said}"
            opened = ""


def _cell(before: str, said: str) -> Iterator[str]:
    """A row of a table is an entry: its first cell, then the others."""
    yield said if before else f".TP\n\\fB{said}\\fR"


def _inline(token: Token) -> str:
    said = []
    for it in token.children or ():
        if it.type == "text":
            said.append(it.content.translate(_SIGNS))
        elif it.type == "code_inline":
            said.append(f"\\fB{it.content.translate(_SIGNS)}\\fR")
        elif it.type in ("softbreak", "hardbreak"):
            said.append("\n")
        else:
            said.append(_FONTS.get(it.type, ""))
    return "\n".join(("\\&" if line[:1] in (".", "'") else "") + line for line in "".join(said).split("\n"))
