# SPDX-License-Identifier: GPL-2.0
"""The limit of a filter: a rate, a burst, and whose packets share them."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from xdpguard.errors import UsageError

Unit = Literal["packets", "bits"]
Per = Literal["filter", "source", "source+port"]  # which packets share a limit

PREFIX4, PREFIX6 = 32, 64  # bits of a source, where nothing else was asked: an IPv6 host has its /64 to itself
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCALES = {"": 1, "k": 1000, "m": 1_000_000, "g": 1_000_000_000}
_NUMBER = r"([0-9]{1,12})"
_PACKETS = re.compile(rf"{_NUMBER}/(s|m|h|d|second|minute|hour|day)")
_BITS = re.compile(rf"{_NUMBER}([kmg]?)bit(?:/(?:s|second))?")
_BURST = re.compile(rf"{_NUMBER}(?:([kmg]?)(bit|byte)s?)?")
_PER = re.compile(r"source(?:/([0-9]{1,3})(?:,([0-9]{1,3}))?)?")
_MOST_PACKETS, _MOST_BITS = 100_000_000, 1_000_000_000_000  # a second
_LEAST_BURST = {"packets": 5, "bits": 5 * 1514 * 8}  # five full frames, as a burst of nftables
_REMEDY = "write packets as 1000/s, 60/m or 100/h; bits as 10mbit/s, 500kbit/s or 1gbit/s"


class Limit(NamedTuple):
    """At most ``amount`` packets or bits in ``seconds``; ``burst``: as many at once.

    ``prefix4`` and ``prefix6``: how many bits of its address make a source, where the limit is per source.
    """

    unit: Unit
    amount: int
    seconds: int
    burst: int
    per: Per = "filter"
    prefix4: int = PREFIX4
    prefix6: int = PREFIX6

    @property
    def per_second(self) -> float:
        """The rate in packets or bits a second."""
        return self.amount / self.seconds

    @property
    def rate(self) -> str:
        """The rate as it is written: 1000/s, 10mbit/s."""
        if self.unit == "packets":
            return f"{self.amount}/{next(name for name, size in _SECONDS.items() if size == self.seconds)}"
        return f"{_scaled(self.amount)}bit/s"

    @property
    def whose(self) -> str:
        """Whose packets share it, as it is written: filter, source, source/24,56, source+port."""
        if self.per != "source" or (self.prefix4, self.prefix6) == (PREFIX4, PREFIX6):
            return self.per
        return f"source/{self.prefix4},{self.prefix6}"

    @property
    def burst_text(self) -> str:
        """The burst as it is written: 500 of packets, 2mbit of bits."""
        return str(self.burst) if self.unit == "packets" else f"{_scaled(self.burst)}bit"

    def __str__(self) -> str:
        usual = self.burst == _usual_burst(self.unit, self.per_second)
        burst = "" if usual else f" burst {self.burst_text}"
        return f"{self.rate}{burst}{'' if self.per == 'filter' else f' per {self.whose}'}"


def parse_limit(rate: str, burst: str = "", per: str = "filter") -> Limit:
    """Parse the words of a limit; without a burst it is what the rate admits in a second. Raise UsageError."""
    unit, amount, seconds = _rate(rate)
    whose, prefix4, prefix6 = _per(per)
    at_once = _burst(burst, unit) if burst else _usual_burst(unit, amount / seconds)
    return Limit(unit, amount, seconds, at_once, whose, prefix4, prefix6)


def _rate(text: str) -> tuple[Unit, int, int]:
    word = text.strip().lower().replace(" ", "")
    if found := _PACKETS.fullmatch(word):
        amount, seconds = int(found[1]), _SECONDS[found[2][0]]
        if 0 < amount <= _MOST_PACKETS * seconds:
            return "packets", amount, seconds
        raise UsageError(f"a rate of {text} is out of range", f"1/d to {_MOST_PACKETS}/s")
    if found := _BITS.fullmatch(word):
        amount = int(found[1]) * _SCALES[found[2]]
        if 0 < amount <= _MOST_BITS:
            return "bits", amount, 1
        raise UsageError(f"a rate of {text} is out of range", "1bit/s to 1000gbit/s")
    raise UsageError(f"not a rate: {text!r}", _REMEDY)


def _burst(text: str, unit: Unit) -> int:
    found = _BURST.fullmatch(text.strip().lower().replace(" ", ""))
    if not found or bool(found[3]) != (unit == "bits"):
        way = "a number of packets: 500" if unit == "packets" else "bits or bytes: 2mbit, 64kbyte"
        raise UsageError(f"not a burst for this rate: {text!r}", f"write it as {way}")
    amount = int(found[1]) * _SCALES[found[2] or ""] * (8 if found[3] == "byte" else 1)
    if not 0 < amount <= (_MOST_PACKETS if unit == "packets" else _MOST_BITS):
        raise UsageError(
            f"a burst of {text} is out of range", f"at most {'100000000' if unit == 'packets' else '1000gbit'}"
        )
    return amount


def _per(text: str) -> tuple[Per, int, int]:
    word = text.strip().lower()
    if word == "filter":
        return "filter", PREFIX4, PREFIX6
    if word in ("source+port", "source-port"):
        return "source+port", 32, 128
    found = _PER.fullmatch(word)
    if not found:
        raise UsageError(
            f"not what a limit can be per: {text!r}", "write filter, source, source/24, source/24,56 or source+port"
        )
    first, second = found[1], found[2]
    if first is None:
        return "source", PREFIX4, PREFIX6
    four, six = (
        (int(first), int(second) if second else PREFIX6) if second or int(first) <= 32 else (PREFIX4, int(first))
    )
    if not (1 <= four <= 32 and 1 <= six <= 128):
        raise UsageError(
            f"not a prefix length: {text!r}", "1 to 32 bits of an IPv4 address, and 1 to 128 of an IPv6 one"
        )
    return "source", four, six


def _usual_burst(unit: Unit, per_second: float) -> int:
    return max(_LEAST_BURST[unit], round(per_second))


def _scaled(amount: int) -> str:
    for name in ("g", "m", "k"):
        if amount % _SCALES[name] == 0:
            return f"{amount // _SCALES[name]}{name}"
    return str(amount)
