# SPDX-License-Identifier: GPL-2.0
"""Headings within a list that say the addresses below them are not to be blocked, and comments over several lines.

A line such as `# allowed`, `[whitelist]` or `; do not block:` with addresses below it is not passed over: the file is
refused, unless a format was asked for. A few words that only may say so are noted.
"""

from __future__ import annotations

import re
from itertools import pairwise

from xdpguard.errors import UsageError
from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded, has_address, shown
from xdpguard.lists.formats.lines import meaning
from xdpguard.lists.formats.names import words_of
from xdpguard.lists.formats.words import CLEAR, is_ban, is_let_in, is_off, normal

NOTED = "a comment that may say that the addresses below it are not to be blocked"
_LONGEST = 100  # characters of a heading
_MOST = 5  # words of a heading that is noted
_LETS = CLEAR - words_of("ok dunno accept accepts") | words_of(
    "white exclude excluded excludes exclusion exclusions exception exceptions except exemption exemptions "
    "ignore ignored ignores bypass safe good benign friendly partner partners "
    ""
    "whitelists allowlists safelists ausnahmen"
)
_CLEARLY = CLEAR - words_of("ok dunno accept accepts") | words_of("exceptions exemptions exclusions ausnahmen")
_OFF = words_of(
    "inactive disabled expired revoked deleted removed unbanned unblocked unblock obsolete archived retired withdrawn "
    "delisted"
)
_NEUTRAL = words_of(
    "a an the my our own these those this following below all any of for and or from in with here begin begins "
    "start starts section part list lists listed known manual manually static host hosts ip ips ipv4 ipv6 v4 "
    "v6 ip4 ip6 address addresses addr addrs network networks net nets subnet subnets range ranges prefix "
    "prefixes cidr cidrs entry entries item items source sources server servers client clients customer "
    "customers bot bots crawler crawlers spider spiders user users peer peers internal external local office "
    "offices vpn monitoring search engine engines false positive positives traffic always please adressen "
    "netze"
)
_ENDING = words_of("end ends none empty nothing eof no")
_BLOCKS = re.compile(r"block|deny|denied|ban|black|drop|reject|malicious|bad|hostile|attack|spam|abus|scan|threat|evil")
_NOT = re.compile(
    r"\b(?:do not|dont|don t|never|not to be|not)_?\s*(?:be )?(?:block|ban|drop|deny|blacklist)(?:ed|ned)?\b"
)
_DENIES = re.compile(r"\b(?:not|no|non|never)(?: yet)? (?:allow|white|permit|trust|safe|exempt)")
_ASIDE = re.compile(r"\([^()]*\)")
_CLOSES = re.compile(r"[#;\s]*[\[<]?\s*/(?!/)")  # [/allow]
_STEMS = (
    *(b"allow", b"permit", b"white", b"trust", b"safe", b"excl", b"excep", b"exempt", b"ignor", b"bypass", b"good"),
    *(
        b"benign",
        b"friend",
        b"partner",
        b"active",
        b"disabl",
        b"expir",
        b"revok",
        b"delete",
        b"remov",
        b"unb",
        b"obsol",
    ),
    *(b"archiv", b"retire", b"withdr", b"delist", b"accept", b"n't ", b"not ", b"never", b"erlaub", b"zugelass"),
    *(b"freigeg", b"autoris", b"aceptad", b"consent", b"toegest", b"ausnahm", b"/*", b"<!--", b"<<<<<<<"),
)
_PLAIN = bytes(range(0x2E, 0x3A)) + b" \t"  # digits, dots, slashes: what most lines consist of
_STARTS = b'0123456789"'  # of lines with an entry
_MARKS = "#;/-=*[]<>!:_~+. \t\"'()"
_OPENERS = {"/*": "*/", "<!--": "-->", "<<<<<<<": ">>>>>>>"}


class Headings:
    """Watches the lines of one file, block by block."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._form = ""
        self._pending: tuple[int, str] | None = None  # a heading that lets in, without an address below it yet
        self._doubtful = False  # what it says is noted, if the next line has an address

    def check(self, whole: bytes, number: int, form: str) -> None:
        """Look at whole lines, read as ``form``. Raise UsageError where a heading lets in the addresses below it."""
        self._form = "plain" if form == "ranges" else form
        begins = [*self._places(whole), len(whole)]
        self._below(whole, 0, begins[0])
        counted = 0
        for begin, following in pairwise(begins):
            number += whole.count(b"\n", counted, begin)
            counted = begin
            line, below = _line(whole, begin)
            self._see(line, number)
            self._below(whole, below, following)

    def _places(self, whole: bytes) -> list[int]:
        """Return where the lines begin that have a word of headings in them."""
        residue = whole.translate(None, _PLAIN).lower()
        found: set[int] = set()
        lowered = b""
        for stem in _STEMS:
            if stem.replace(b"/", b"").replace(b" ", b"") not in residue:
                continue
            lowered = lowered or whole.lower()
            at = lowered.find(stem)
            while at >= 0:
                begin, end = lowered.rfind(b"\n", 0, at) + 1, lowered.find(b"\n", at)
                if lowered[begin] not in _STARTS:
                    found.add(begin)
                at = lowered.find(stem, end) if end >= 0 else -1
        return sorted(found)

    def _see(self, line: str, number: int) -> None:
        """Take a line for a heading, if it is one."""
        bare = line.strip()
        comment = bare.startswith(("#", ";", "//", "--"))
        if comment and self._doubtful:
            self._pending = None
        for opener, closer in _OPENERS.items():
            if bare.startswith(opener) and closer not in bare:
                what = "two versions of a merge" if opener == "<<<<<<<" else "a comment over several lines"
                raise self._refused(number, f"{shown(bare)!r} begins {what}, which is not read as such")
        if has_address(bare):
            return
        inner = _ASIDE.sub(" ", bare).strip(_MARKS + ",|")
        words = normal(inner.replace("'", "")).replace("_", " ")
        spread = any(mark in inner for mark in ",;\t|") or (self._form == "csv" and not comment and " " in words)
        if not words or len(bare) > _LONGEST or spread:
            return
        if _CLOSES.match(bare):
            self._pending = None
            return
        rest, lets = _NOT.subn(" ", words)
        own = {word for word in rest.split() if not word.isdecimal()}
        if not own.isdisjoint(_ENDING) or (_BLOCKS.search(rest) and not lets):
            self._pending = None
        elif (lets or own & _LETS) and own <= _LETS | _NEUTRAL:
            self._pending, self._doubtful = (number, bare), False
        elif comment and own & (_CLEARLY | _OFF) and len(own) <= _MOST and not _DENIES.search(words):
            self._pending, self._doubtful = (number, bare), True

    def _below(self, whole: bytes, begin: int, end: int) -> None:
        """Refuse the file if the lines here have an address, before a comment with one or another heading."""
        if not self._pending:
            return
        at = begin
        while at < end:
            line, at = _line(whole, at)
            bare = line.strip()
            mark = bare.startswith(("#", ";", "//", "--"))
            if has_address(bare):
                if mark:  # an entry that was taken out
                    self._pending = None
                    return
                if _says_so(bare) or (self._form == "plain" and meaning(bare, 0).entry is None):
                    continue
                if self._doubtful:
                    self._collector.notes.remark(NOTED, self._pending[0])
                    self._pending = None
                    return
                raise self._refused(
                    self._pending[0],
                    f"{shown(self._pending[1])!r} says that the addresses below it are not to be blocked",
                )
            if (mark and self._doubtful) or ((mark or bare[-1:] in tuple("]:=")) and _BLOCKS.search(bare.lower())):
                self._pending = None
                return

    def _refused(self, number: int, why: str) -> UsageError:
        return self._collector.refused(number, why, f"take that part out; --format {self._form} takes it all the same")


def _says_so(line: str) -> bool:
    """Return whether an entry itself says whether it blocks."""
    rest = line.split(None, 1)[1:] or re.split("[,;|]", line, maxsplit=1)[1:]
    return bool(rest) and any(says(rest[0]) for says in (is_ban, is_let_in, is_off, is_ban))


def _line(whole: bytes, begin: int) -> tuple[str, int]:
    """Return the line that begins here, and where the next one does."""
    end = whole.find(b"\n", begin)
    return decoded(whole[begin:end]), end + 1
