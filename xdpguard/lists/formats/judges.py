# SPDX-License-Identifier: GPL-2.0
"""The columns that decide over rows: by their names, or by what they hold."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.lists.formats.ends import end_of
from xdpguard.lists.formats.names import words_of
from xdpguard.lists.formats.words import BANS, BANS_NAME, FALSE, IDLE, LET_IN, LETS_IN_NAME, TRUE, head, normal

_UNCLEAR_END = "ends that cannot be read, taken as entries without one, in column"
_UNKNOWN = "words that may or may not block, taken to block, in column"
_UNCLEAR_WORD = "words that may say that a row does not block, taken to block, in column"
_MAYBE = "times that may be the ends of entries, not taken for that, in column"
_OUT = "rows about traffic that leaves, taken to block, in column"

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
    "simulated unbanned is_unbanned unblocked is_unblocked retired archived lifted delisted cleared resolved"
)
_LEVELS = frozenset(("level", "access_level", "accesslevel"))
_LOWEST_LET_IN = 128  # eMule: from this level on, an address is let in
_ENDS = words_of(
    "expires expire expiry expiration expires_at expired_at expire_at expires_on expiry_date expiration_date "
    "expire_date expiration_time expiry_time expire_time valid_until validuntil valid_to until banned_until "
    "ban_until block_until blocked_until ban_expires ban_end ban_expiry end_of_ban unban_at unban_time not_after "
    "notafter valid_before ends ends_at ends_on deleted_at removed_at revoked_at disabled_at released_at delisted_at "
    "unbanned_at unblocked_at lifted_at deleted_on removed_on revoked_on released_on delisted_on"
)
_SPANS = words_of("ttl timeout bantime ban_time ban_duration block_duration expires_in remaining time_left")
# Columns that end entries in some lists, and connections in others.
_MAYBE_ENDS = words_of(
    "end end_date enddate end_time endtime stop stop_date stop_time to_date duration lifetime lease lease_time "
    "validity valid_for max_age"
)
_WAYS = words_of("direction dir flow_direction traffic_direction network_direction")
_OUTWARD = words_of("out outbound outgoing outbounds egress outward sent upload")
_NO_ADDRESSES = words_of(
    "domain hostname host_name fqdn url uri urlpath link md5 sha1 sha256 sha512 hash filehash_md5 filehash_sha1 "
    "filehash_sha256 email email_src email_dst filename file file_name mutex yara cve asn as country user_agent ja3 "
    "intel_domain intel_url intel_file_hash intel_email intel_software intel_user_name intel_cert_hash "
    "intel_file_name intel_pubkey_hash intel_ja3"
)


_SAYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {  # which words let in, and which leave out
    "action": (LET_IN, IDLE),
    "type": (LET_IN, _NO_ADDRESSES | IDLE),
    "wanted": (frozenset(), FALSE),
    "refused": (TRUE, frozenset()),
    "gone": (frozenset(), TRUE),
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
        return self._word(cell, head(cell))

    def _word(self, cell: str, word: str) -> Verdict:
        unclear = ""
        if self.how == "maybe":
            unclear = (
                _MAYBE if any(map(str.isdecimal, cell)) and isinstance(end_of(cell, 0, True), (float, int)) else ""
            )
        elif self.how == "way":
            unclear = _OUT if word in _OUTWARD else ""
        elif self.how == "level":
            if word.isdecimal() and int(word[:9]) >= _LOWEST_LET_IN:
                return Verdict(let_in=f"{self.name} {_LOWEST_LET_IN} and above")
        elif word in _SAYS[self.how][0]:
            return Verdict(let_in=f"{self.name}={cell}")
        elif word in _SAYS[self.how][1]:
            return Verdict(out=f"{self.name}={cell}")
        elif self.how in ("refused", "gone"):
            unclear = "" if word in FALSE | TRUE else _UNCLEAR_WORD
        elif self.how == "action" and _decides(self.name) and word not in BANS:
            unclear = _UNKNOWN
        return Verdict(unclear=f"{unclear} {self.name}") if unclear else _NOTHING

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
        ("way", _WAYS),
        ("maybe", _MAYBE_ENDS),
    ):
        if name in names:
            return Judge(at, name, how)
    return Judge(at, name, "action") if _decides(name) else None


def _decides(name: str) -> bool:
    """Return whether every word of a column of this name should tell whether its row blocks."""
    return name in _DECISIONS or name.endswith(("_action", "_verdict"))


def flagged(at: int, name: str, cells: list[str]) -> Judge | None:
    """Return how a column of yes and no decides over rows, by a word within its name; None if it does not."""
    said = {normal(cell) for cell in cells}
    if not said or not said <= FALSE | TRUE:
        return None
    how = "refused" if LETS_IN_NAME.search(name) else "wanted" if BANS_NAME.search(name) else ""
    return Judge(at, name, how) if how else None


def unnamed(at: int, cells: list[str], name: str = "") -> Judge | None:
    """Return how a column of any name decides over rows: by its cells, if all are words that block or let in."""
    words = {normal(cell) if name else head(cell) for cell in cells if cell}
    if words and words <= LET_IN | BANS | IDLE:
        return Judge(at, name or f"column {at + 1}", "action")
    return None
