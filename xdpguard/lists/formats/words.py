# SPDX-License-Identifier: GPL-2.0
"""The words by which columns and lines say that an address is not to be blocked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from xdpguard.lists.formats.ends import end_of
from xdpguard.lists.formats.names import words_of

_UNCLEAR_END = "ends that cannot be read, taken as entries without one, in column"
_UNKNOWN = "words that may or may not block, taken to block, in column"
_UNNAMED = re.compile(r"[^a-z0-9]+")

# An address that is let in: it is kept out of larger entries as well.
LET_IN = words_of(
    "allow allowed allows permit permitted permits accept accepted accepts pass passed passes ok okay dunno relay "
    "let_in whitelist whitelisted white allowlist allowlisted allow_list white_list safelist trusted trust "
    "trustlist exclude excluded exclusion exception except exempt exempted ignore ignored bypass safe benign good "
    "clean known_good not_malicious false_positive nomatch friendly partner skip "
    "erlauben erlaubt zulassen zugelassen freigeben freigegeben autoriser autorise permettre accepter permitir "
    "permitido aceptar aceptado consentire consentito toestaan toegestaan"
)
# An entry that is not in force.
_OFF = words_of(
    "inactive disabled disable expired revoked deleted delete removed remove unban unbanned unblock unblocked off "
    "retired withdrawn obsolete archived released lifted"
)
_IDLE = _OFF | words_of(
    "resolved closed log logged monitor monitored detect detected alert count counted observe observed captcha "
    "challenge managed_challenge js_challenge jschallenge interactive_challenge"
)
_BANS = words_of(
    "deny denied block blocked ban banned drop dropped reject rejected refuse refused discard discarded blacklist "
    "blacklisted blocklist blocklisted denylist blackhole prohibit active enabled malicious bad quarantine "
    "sperren gesperrt sperre blockieren blockiert verwerfen ablehnen verbieten bloquer bloque refuser interdire "
    "bloquear bloqueado denegar denegado rechazar bloccare bloccato negare blokkeren geblokkeerd"
)
_FALSE = words_of("0 false no n f off disabled inactive nein non falsch faux falso")
_TRUE = words_of("1 true yes y t on x enabled active ja oui si wahr vrai verdadero")

_ACTIONS = words_of(
    "target action verdict decision rule_action effect permission access_type policy operation target_action "
    "list_type listtype list list_name classification status state type entry_type kind category mode verdict_type "
    "reputation tag tags label disposition effect permission_type aktion accion azione actie"
)
# Of these, the columns whose every word should tell whether the row blocks.
_DECISIONS = words_of(
    "action verdict decision rule_action effect permission access_type target_action verdict_type aktion accion "
    "azione actie"
)
_TYPES = words_of("type indicator_type ioc_type entry_type kind ioc_kind observable_type datatype data_type")
_WANTED = words_of(
    # columns that say yes
    "to_ids ids enabled enable is_enabled active is_active isactive block is_block blocked is_blocked ban is_banned "
    "banned deny malicious is_malicious listed is_listed blacklisted is_blacklisted in_force aktiv aktiviert "
    "gesperrt blockiert actif bloque bloquee activo bloqueado attivo bloccato actief"
)
_REFUSED = words_of(
    # columns that say no: let in
    "whitelist whitelisted is_whitelisted iswhitelisted allowlist allowlisted is_allowlisted isallowlisted allow "
    "allowed permit permitted exclude excluded is_excluded exempt exception ignore ignored trusted is_trusted safe "
    "benign false_positive is_false_positive isfalsepositive known_good negate negated inverted"
)
_GONE = words_of(
    # columns that say no: not in force
    "disabled is_disabled inactive is_inactive deleted is_deleted removed revoked is_revoked expired is_expired "
    "simulated unbanned retired archived"
)
_LEVELS = frozenset(("level", "access_level", "accesslevel"))
_LOWEST_LET_IN = 128  # eMule: from this level on, an address is let in
_ENDS = words_of(
    "expires expire expiry expiration expires_at expired_at expire_at expires_on expiry_date expiration_date "
    "expire_date expiration_time expiry_time expire_time valid_until validuntil valid_to until banned_until "
    "ban_until block_until blocked_until ban_expires ban_end ban_expiry end_of_ban unban_at unban_time"
)
_SPANS = words_of("ttl timeout bantime ban_time ban_duration block_duration expires_in remaining time_left")
_NO_ADDRESSES = words_of(
    "domain hostname host_name fqdn url uri urlpath link md5 sha1 sha256 sha512 hash filehash_md5 filehash_sha1 "
    "filehash_sha256 email email_src email_dst filename file file_name mutex yara cve asn as country user_agent ja3 "
    "intel_domain intel_url intel_file_hash intel_email intel_software intel_user_name intel_cert_hash "
    "intel_file_name intel_pubkey_hash intel_ja3"
)


_SAYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {  # which words let in, and which leave out
    "action": (LET_IN, _IDLE),
    "type": (LET_IN, _NO_ADDRESSES | _IDLE),
    "wanted": (frozenset(), _FALSE),
    "refused": (_TRUE, frozenset()),
    "gone": (frozenset(), _TRUE),
}


class Verdict(NamedTuple):
    """What a cell says: nothing; why its row is left out or let in; an end in Unix time; what is unclear about it."""

    out: str = ""
    let_in: str = ""
    end: float | None = None
    unclear: str = ""


_NOTHING = Verdict()


class Judge(NamedTuple):
    """A column that says which rows block: its place, its name as shown, and how it says so."""

    at: int
    name: str
    how: str

    def verdict(self, cell: str, now: float) -> Verdict:
        """Return what a cell of this column says about its row."""
        if not cell or cell == "-":
            return _NOTHING
        if self.how in ("end", "span"):
            return self._end(cell, now)
        word = normal(cell)
        if self.how == "level":
            above = word.isdecimal() and int(word[:9]) >= _LOWEST_LET_IN
            return Verdict(let_in=f"{self.name} {_LOWEST_LET_IN} and above") if above else _NOTHING
        let_in, out = _SAYS[self.how]
        if word in let_in:
            return Verdict(let_in=f"{self.name}={cell}")
        if word in out:
            return Verdict(out=f"{self.name}={cell}")
        unknown = self.how == "action" and self.name in _DECISIONS and word not in _BANS
        return Verdict(unclear=f"{_UNKNOWN} {self.name}") if unknown else _NOTHING

    def _end(self, cell: str, now: float) -> Verdict:
        found = end_of(cell, now, self.how == "span")
        if isinstance(found, str):
            return Verdict(unclear=f"{_UNCLEAR_END} {self.name}")
        return _NOTHING if found is None else Verdict(end=found)


def judge(at: int, name: str) -> Judge | None:
    """Return how a column of this (normalised) name decides over rows; None if it does not."""
    for how, names in (
        ("type", _TYPES),
        ("action", _ACTIONS),
        ("wanted", _WANTED),
        ("refused", _REFUSED),
        ("gone", _GONE),
        ("level", _LEVELS),
        ("end", _ENDS),
        ("span", _SPANS),
    ):
        if name in names:
            return Judge(at, name, how)
    return None


def unnamed(at: int, cells: list[str], name: str = "") -> Judge | None:
    """Return how a column of any name decides over rows: by its cells, if all are words that block or let in."""
    words = {normal(cell) for cell in cells if cell}
    if words and words <= LET_IN | _BANS | _IDLE and not words <= _BANS:
        return Judge(at, name or f"column {at + 1}", "action")
    return None


def are_flags(cells: Collection[str]) -> bool:
    """Return whether cells say yes and no, and nothing else."""
    said = {normal(cell) for cell in cells}
    return said <= _FALSE | _TRUE and not said <= _FALSE and not said <= _TRUE


def is_let_in(text: str) -> bool:
    """Return whether words after an address say that it is not blocked."""
    return normal(text) in LET_IN


def is_off(text: str) -> bool:
    """Return whether words after an address say that its block is not in force."""
    return normal(text) in _OFF


def normal(text: str) -> str:
    """Return a name or word in small letters without accents, with underscores for what is no letter or digit."""
    if not text.isascii():
        text = "".join(it for it in unicodedata.normalize("NFKD", text) if not unicodedata.combining(it))
    return _UNNAMED.sub("_", text.strip(" #\"'").lower()).strip("_")
