# SPDX-License-Identifier: GPL-2.0
"""The words by which columns and lines say that an address is not to be blocked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

from xdpguard.lists.formats.names import words_of

_VALUES = re.compile(r"[|,;/]")
_UNNAMED = re.compile(r"[^a-z0-9]+")

# An address that is let in: it is kept out of larger entries as well.
LET_IN = words_of(
    "allow allowed allows permit permitted permits accept accepted accepts pass passed passes ok okay dunno relay "
    "let_in whitelist whitelisted white allowlist allowlisted allow_list white_list safelist trusted trust "
    "trustlist exclude excluded exclusion exception except exempt exempted ignore ignored bypass safe benign good "
    "clean known_good not_malicious false_positive false_pos falsepos falsepositive nomatch friendly partner skip "
    "erlauben erlaubt zulassen zugelassen freigeben freigegeben autoriser autorise permettre accepter permitir "
    "permitido aceptar aceptado consentire consentito toestaan toegestaan"
)
# An entry that is not in force.
OFF = words_of(
    "inactive disabled disable expired revoked deleted delete removed remove unban unbanned unblock unblocked off "
    "retired withdrawn obsolete archived released lifted delisted dismissed cleared abgelaufen inaktiv inactif inactivo"
)
IDLE = OFF | words_of(
    "resolved closed log logged monitor monitored detect detected alert count counted observe observed captcha "
    "challenge managed_challenge js_challenge jschallenge interactive_challenge"
)
BANS = words_of(
    "deny denied block blocked ban banned drop dropped reject rejected refuse refused discard discarded blacklist "
    "blacklisted blocklist blocklisted denylist blackhole prohibit active enabled malicious bad quarantine "
    "sperren gesperrt sperre blockieren blockiert verwerfen ablehnen verbieten bloquer bloque refuser interdire "
    "bloquear bloqueado denegar denegado rechazar bloccare bloccato negare blokkeren geblokkeerd"
)
# Of these, the ones that also decide as the first of several words: "OK trusted partner", "expired 2026-01-01".
CLEAR = words_of(
    "allow allows allowed permit permits permitted accept accepts accepted ok dunno whitelist whitelisted allowlist "
    "allowlisted safelist trusted exempt exempted erlauben erlaubt zugelassen freigegeben autorise permitido aceptado "
    "consentito toegestaan"
)
_CLEAR_PARTS = (
    *(b"allow", b"permi", b"accept", b"ok", b"dunno", b"whitelist", b"safelist", b"trusted", b"exempt", b"erlaub"),
    *(b"zugelassen", b"freigegeben", b"autorise", b"aceptado", b"consentito", b"toegestaan"),
)
_CLEARLY_OFF = words_of("inactive disabled expired revoked deleted removed unbanned unblocked delisted obsolete")
FALSE = words_of("0 false no n f off disabled inactive nein non falsch faux falso")
TRUE = words_of("1 true yes y t on x enabled active ja oui si wahr vrai verdadero")

# Columns of yes and no whose name has one of these in it.
LETS_IN_NAME = re.compile(r"(?:white|allow|safe)_?list|(?<!dis)(?<!not)(?<!not_)allowed|trusted|exempt|false_?pos")
BANS_NAME = re.compile(r"(?:black|block|deny|ban)_?list|(?<!un)blocked|(?<!un)banned|malicious|denied")


def head(text: str) -> str:
    """Return what decides of the words of a cell or comment: all of them, one of several values, or the first."""
    word = normal(text)
    if word in LET_IN or word in BANS or word in IDLE or "_" not in word:
        return word
    if found := next((value for part in _VALUES.split(text) if (value := normal(part)) in CLEAR), ""):
        return found
    first = word.partition("_")[0]
    return first if first in CLEAR or first in _CLEARLY_OFF or first in BANS else word


def are_flags(cells: Collection[str]) -> bool:
    """Return whether cells say yes and no, and nothing else."""
    said = {normal(cell) for cell in cells}
    return said <= FALSE | TRUE and not said <= FALSE and not said <= TRUE


def is_let_in(text: str) -> bool:
    """Return whether words after an address say that it is not blocked."""
    return head(text) in LET_IN


def is_off(text: str) -> bool:
    """Return whether words after an address say that its block is not in force."""
    return head(text) in OFF


def is_ban(text: str) -> bool:
    """Return whether words after an address say that it is blocked."""
    return head(text) in BANS


def normal(text: str) -> str:
    """Return a name or word in small letters without accents, with underscores for what is not a letter or digit."""
    if not text.isascii():
        text = "".join(it for it in unicodedata.normalize("NFKD", text) if not unicodedata.combining(it))
    return _UNNAMED.sub("_", text.strip(" #\"'").lower()).strip("_")


def speaks_alone(text: str) -> bool:
    """Return whether a cell begins with a word that lets in, or is one of its values."""
    return head(text) in CLEAR


def has_clear_words(text: bytes) -> bool:
    """Return whether `speaks_alone` may be true for a part of this text."""
    lowered = text.lower()
    return any(word in lowered for word in _CLEAR_PARTS)


def lets_in(name: str) -> bool:
    """Return whether a set of this name holds what is let in."""
    words = normal(name).split("_")
    return any(word.rstrip("0123456789") in CLEAR or LETS_IN_NAME.search(word) for word in words) and "not" not in words
