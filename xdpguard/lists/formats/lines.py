# SPDX-License-Identifier: GPL-2.0
"""What a line of a plain list says: an entry, with whatever the vendors of lists write after it.

A comment begins with #, ; or // anywhere, with -- or a blank after an address. What follows an address is not taken for
a comment without a word: another address, a prefix length or a netmask there is a second reading of the line.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from xdpguard.lists.formats.ends import end_of
from xdpguard.lists.formats.entries import Entry, entry, has_address, hides_address, shown, speaks
from xdpguard.lists.formats.masks import could_be_length, is_mask
from xdpguard.lists.formats.reasons import NO_ENTRY, VAGUE
from xdpguard.lists.formats.words import is_let_in, is_off

WORDS = "words after the address, taken for comments"
HIDDEN = "addresses in comments after an entry, not taken"
SPOKEN = "comments that may say that an address is let in, or when its block ends, taken to block"
SEVERAL = "several addresses on the line, each taken as an entry"
_SEVERAL = "several addresses on one line"
_MORE = f"{_SEVERAL}; --format addresses takes each, --format ranges the first two as a range"
_AMONG = f"{_SEVERAL}, among other words"
_LENGTH = (
    "an address and what may be its prefix length or netmask; --prefix-column 2 takes it so, --format plain ignores it"
)
_SEPARATOR = re.compile(r"[,;|]")
_BREAK = re.compile(r"[,;|\s]+")
_BREAKS = re.compile(r"[,;|\t]")
_COMMENT = re.compile(r"#|//")
_MARK = re.compile("[#;]")
_SPACED_RANGE = re.compile(r"(\S+)\s*-\s*([0-9A-Fa-f:.]+)\s+(\S.*)")
# Ranges as people write them, with a dash of typography or a word.
_WRITTEN_RANGE = re.compile(r"([0-9A-Fa-f:.]+?)(?:\s*(?:[\u2010-\u2015\u2212~]|\.\.+)\s*|\s+to\s+)([0-9A-Fa-f:.]+)")
_EXCEPTION = re.compile(r"(?:!|except\s|exclude\s|not\s)\s*(\S.*)", re.IGNORECASE)
_NEGATED = re.compile(r"[-~^](?=[0-9A-Fa-f]*[.:])")
_DIGITS = re.compile(r"[0-9]|::")
_FAIL2BAN = re.compile(r"[0-9-]{10} [0-9:]{8} \+ -?[0-9]+ = ([0-9-]{10} [0-9:]{8})")  # banip --with-time


def has_ban_times(line: str) -> bool:
    """Return whether a line is one of fail2ban's `banip --with-time`: an address, and when its ban began and ends."""
    return _FAIL2BAN.search(line) is not None


class Meaning(NamedTuple):
    """The meaning of a line; all empty for a blank line or a comment.

    ``remark`` is what to tell about it, ``let_in`` and ``exception`` are addresses that are not to be blocked, the
    latter by an exclusion mark, ``why`` is what lets it in, ``out`` what puts it out of force, ``fault`` why there is
    no entry.
    """

    entry: Entry | None = None
    fault: str = ""
    remark: str = ""
    let_in: str = ""
    why: str = ""
    out: str = ""
    exception: str = ""
    end: float | None = None


_NOTHING = Meaning()


def meaning(line: str, now: float) -> Meaning:
    """Return what a line says; ``now`` is Unix time."""
    text = line.strip().lstrip("\ufeff").strip()
    if not text or text.startswith(("#", ";", "//", "--")):
        return _NOTHING
    said = entry(text)
    if isinstance(said, Entry):
        if not hides_address(text):
            return _commented(text, said)
    elif (marked := _EXCEPTION.match(text)) and (text[0] != "!" or _DIGITS.search(marked[1])):
        return Meaning(exception=marked[1])
    elif _NEGATED.match(text):
        return Meaning(fault="an address with a sign; an exception is written with !")
    elif text[0] == "!":
        return _NOTHING  # a comment, as in lists for browsers
    return _decorated(text, said if isinstance(said, str) else "", now)


def _commented(text: str, said: Entry) -> Meaning:
    """Return the meaning of an entry and a comment without an address, if there is one."""
    mark = _MARK.search(text)
    if mark is None or not speaks(text[mark.start() :]) or not isinstance(entry(text[: mark.start()]), Entry):
        return Meaning(said)
    word = _BREAKS.split(text[mark.end() :].strip(), maxsplit=1)[0]
    if mark[0] == ";" and (is_let_in(word) or is_off(word)):  # columns, though other rows have none
        return Meaning(let_in=text[: mark.start()], why=word) if is_let_in(word) else Meaning(out=word)
    return Meaning(said, remark=SPOKEN)


def _decorated(text: str, fault: str, now: float) -> Meaning:
    """Return the meaning of a line that is not an entry and a harmless comment."""
    if fault.startswith(("a reversed range", "a range from")):
        return Meaning(fault=fault)
    body, *comments = _COMMENT.split(text, maxsplit=1)
    remark = _remark("".join(comments))
    body = body.strip()
    if written := _WRITTEN_RANGE.fullmatch(body):
        body, fault = f"{written[1]}-{written[2]}", ""
    if found := several(body):
        return Meaning(found, remark=SEVERAL if len(_SEPARATOR.split(body.strip(",;|"))) > 1 else remark)
    if ";" in body:
        body, comment = body.split(";", 1)
        remark = _remark(";" + comment) or remark
        body = body.strip()
    said = entry(body)
    if isinstance(said, Entry):
        return Meaning(said, remark=remark)
    return _with_words(body, remark, now) or Meaning(fault=_reason(body, fault, said))


def _remark(comment: str) -> str:
    return HIDDEN if has_address(comment) else SPOKEN if speaks(comment) else ""


def _reason(body: str, fault: str, said: str | None) -> str:
    words = [bare for word in _BREAK.split(body) if (bare := word.strip("\"'()[]{}"))]
    found = [entry(word) for word in words]
    if sum(isinstance(it, Entry) for it in found) > 1:
        return _MORE if all(isinstance(it, Entry) for it in found) else _AMONG
    if (fault or said or NO_ENTRY) != NO_ENTRY:
        return fault or said or ""
    # What is wrong may be wrong with one of its words, such as an address with a port.
    for word, why in zip(words, found, strict=True):
        if len(words) > 1 and isinstance(why, str) and why not in VAGUE:
            return f"not an entry: {shown(word)!r} is {why}"
    return NO_ENTRY


def _with_words(body: str, remark: str, now: float) -> Meaning | None:
    """Return the meaning of an entry with words after a blank; None if it is not one."""
    ranged = _SPACED_RANGE.fullmatch(body)
    if ranged and isinstance(said := entry(f"{ranged[1]}-{ranged[2]}"), Entry):
        rest = ranged[3]
        address = ""
    else:
        address, _, rest = body.partition(" ") if " " in body and "\t" not in body else _at_blank(body)
        rest = rest.strip()
        said_of = entry(address) if rest else None
        if not isinstance(said_of, Entry):
            return None
        said = said_of
    if ended := _FAIL2BAN.fullmatch(rest):
        found = end_of(ended[1], now)
        return Meaning(said, end=found if isinstance(found, float) else None)
    if has_address(rest):
        return Meaning(fault=_reason(body, _AMONG, None))
    if address and could_be_length(address, rest.split(None, 1)[0]):
        return Meaning(fault=_LENGTH)
    if address and (is_let_in(rest) or is_off(rest)):
        return Meaning(let_in=address, why=rest) if is_let_in(rest) else Meaning(out=rest)
    return Meaning(said, remark=remark or WORDS)


def _at_blank(body: str) -> tuple[str, str, str]:
    head, *rest = body.split(None, 1)
    return head, " ", rest[0] if rest else ""


def several(body: str) -> Entry | None:
    """Return the entries of a line that has nothing else, with separators between them; None if it has."""
    parts = [part.strip() for part in _SEPARATOR.split(body.strip(",;| \t"))]
    if any(map(is_mask, parts)) and len(parts) > 1:
        return None
    return merged(parts)


def merged(parts: list[str]) -> Entry | None:
    """Return several entries as one; None unless each of the texts is an entry."""
    made = Entry([], [], False)
    for part in parts:
        said = entry(part)
        if not isinstance(said, Entry):
            return None
        made.ranges4.extend(said.ranges4)
        made.prefixes6.extend(said.prefixes6)
        made = made._replace(cleared=made.cleared or said.cleared, ranges6=[*made.ranges6, *said.ranges6])
    return made


def every(line: str) -> Meaning:
    """Return all addresses of a line, whatever separates them: ``--format addresses``."""
    words, comment = _words(line)
    if not words:
        return _NOTHING
    found = merged(words)
    if found is None:
        wrong = next(word for word in words if not isinstance(entry(word), Entry))
        return Meaning(fault=f"{wrong!r} among its addresses is not one")
    return Meaning(found, remark=HIDDEN if has_address(comment) else "")


def first_two(line: str) -> Meaning:
    """Return the range from the first address of a line to its second: ``--format ranges``."""
    words, comment = _words(re.sub(r"\s+-\s+|(?<=[0-9A-Fa-f:])-(?=[0-9A-Fa-f:])", " ", line))
    if not words:
        return _NOTHING
    alone = len(words) < 2 or "/" in words[0]
    said = entry(words[0] if alone else f"{words[0]}-{words[1]}")
    if not isinstance(said, Entry):
        return Meaning(fault=said or "not a range")
    return Meaning(said, remark=HIDDEN if has_address(" ".join(words[2:])) or has_address(comment) else "")


def first_only(line: str) -> Meaning:
    """Return the entry a line begins with, whatever follows: ``--format plain``."""
    said = entry(line)
    words, comment = _words(line)
    if isinstance(said, Entry):
        return Meaning(said, remark=HIDDEN if hides_address(line) else "")
    if not words:
        return _NOTHING
    found = entry(words[0])
    if not isinstance(found, Entry):
        return Meaning(fault=found or "not an address")
    rest = " ".join([*words[1:], comment])
    return Meaning(found, remark=HIDDEN if has_address(rest) else WORDS if rest else "")


def _words(line: str) -> tuple[list[str], str]:
    text = line.strip().lstrip("\ufeff").strip()
    if text.startswith(("#", ";", "//", "--")):
        return [], ""
    body, *comments = _COMMENT.split(text, maxsplit=1)
    return [word.strip("\"'") for word in _BREAK.split(body) if word.strip("\"'")], "".join(comments)
