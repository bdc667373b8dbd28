# SPDX-License-Identifier: GPL-2.0
"""tcp rtt: smoothed round-trip times as log2 histograms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.tcp import loop, options
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges
from xdpguard.policy.duration import parse_interval

if TYPE_CHECKING:
    from xdpguard.cli.answers.tcp import Times
    from xdpguard.tcp.histogram import Histogram
    from xdpguard.tcp.rtt import Group

By = Literal["all", "local", "remote", "local-port", "remote-port"]
Unit = Literal["us", "ms"]
_PERCENTILES = (0.5, 0.9, 0.99)
_BAR = 40
_LONGEST = 3_600_000_000  # us; the kernel keeps it in 32 bits
_LOOK = 0.1  # seconds between two scans of a process's sockets

_EXAMPLES = """
\b
Examples:
  xdpguard tcp rtt                                   until Ctrl-C, then one histogram for each namespace
  xdpguard tcp rtt --for 10s --by remote --prefix4 24 --unit ms
  xdpguard tcp rtt --local-port 443 --interval 1s    a histogram every second
  xdpguard tcp rtt --for 10s --by remote --json | jq '.groups[] | {remote, p99}'

Each segment that an established connection receives counts once, with the smoothed round-trip time at that moment.
"""


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(epilog=_EXAMPLES)(options.with_sockets(rtt))


def rtt(
    sockets: options.Sockets,
    longer: Annotated[
        str | None, typer.Option("--longer", metavar="TIME", help="Only times of at least this much: 5ms.")
    ] = None,
    by: Annotated[By, typer.Option("--by", help="One histogram for each of these.")] = "all",
    prefix4: options.Prefix4 = 32,
    prefix6: options.Prefix6 = 128,
    unit: Annotated[Unit, typer.Option("--unit", help="Microseconds or milliseconds.")] = "us",
    interval: Annotated[
        str | None, typer.Option("--interval", metavar="TIME", help="Print a histogram for each interval: 500ms, 10s.")
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="How many histograms; 0 for all.")] = 10,
    length: options.Length = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --interval, a line each time.")] = False,
) -> None:
    """Show smoothed round-trip times as histograms, with percentiles and average."""
    from xdpguard.tcp.histogram import Histogram
    from xdpguard.tcp.rtt import RoundTrips

    if (prefix4, prefix6) != (32, 128) and by not in ("local", "remote"):
        raise UsageError(
            "--prefix4 and --prefix6 need --by remote or --by local", "add one of them, or leave the prefixes out"
        )
    least = round(parse_interval(longer) * 1e6) if longer is not None else 0
    if least > _LONGEST:
        raise UsageError("--longer is longer than the kernel can count", "give an hour at most")
    chosen = sockets.filter(longer=least)
    until, every = options.seconds(length), options.seconds(interval)
    require_privileges()
    shown = _Shown(by, prefix4, prefix6, unit, top, as_json)
    with RoundTrips(chosen, by, prefix4, prefix6) as running:
        before: Mapping[Group, Histogram] = {}
        due = time.monotonic() + every if every else float("inf")
        for last in loop.rounds("measuring round-trip times", min(_LOOK, every or _LOOK), until):
            running.inodes.refresh()
            if not last and time.monotonic() < due:
                continue
            due = max(due + (every or 0.0), time.monotonic())
            now = running.read()
            fresh = {key: its.minus(before.get(key, Histogram())) for key, its in now.items()}
            shown.show({key: its for key, its in fresh.items() if its.counts}, headed=bool(every))
            before = now
        if running.lost():
            words = render.counted(running.lost(), "time is", "times are")
            render.note(f"{words} missing from these figures: too many groups; use a shorter --prefix4")
        if running.inodes.left_out:
            words = render.counted(running.inodes.left_out, "socket of the process was", "sockets of the process were")
            render.note(f"{words} not observed: it has too many")


class _Shown:
    """Print histograms in the terminal, or as JSON."""

    def __init__(self, by: By, prefix4: int, prefix6: int, unit: Unit, top: int, as_json: bool) -> None:
        from xdpguard.tcp.namespaces import Names

        self._by = by
        self._prefixes = prefix4, prefix6
        self._unit = unit
        self._scale = 1000.0 if unit == "ms" else 1.0
        self._top = top
        self._as_json = as_json
        self._names = Names()

    def show(self, found: Mapping[Group, Histogram], headed: bool) -> None:
        """Print the groups with the highest counts."""
        chosen = sorted(found.items(), key=lambda item: (-item[1].count, item[0]))
        left_out = chosen[self._top :] if self._top else []
        chosen = chosen[: self._top or None]
        if self._as_json:
            from xdpguard.cli.answers.tcp import RoundTrips

            now, groups = round(time.time(), 3), [self._answer(*item) for item in chosen]
            document = RoundTrips(time=now, unit=self._unit, groups=groups, groups_left_out=len(left_out))
            loop.write([render.json_line(document)])
            return
        lines = [f"--- {units.moment(time.time())}"] if headed else []
        for key, its in chosen:
            lines += self._lines(key, its)
        if not chosen:
            lines.append("no observed established connection has received a segment")
        if left_out:
            lines.append(f"and {len(left_out):,} more with fewer segments; --top 0 shows all")
        loop.write(lines)

    def _answer(self, key: Group, its: Histogram) -> Times:
        from xdpguard.cli.answers.tcp import Bucket, Times
        from xdpguard.tcp.histogram import bounds

        points: dict[str, Any] = {
            f"p{share * 100:g}": round(its.percentile(share) / self._scale, 3) for share in _PERCENTILES
        }
        return Times(
            netns=self._names.name(key.netns),
            netns_inode=key.netns,
            **self._label(key),
            count=its.count,
            average=round(its.average / self._scale, 3),
            **points,
            buckets=[
                Bucket(low / self._scale, high / self._scale, its.counts[bucket])
                for bucket in sorted(its.counts)
                for low, high in [bounds(bucket)]
            ],
        )

    def _label(self, key: Group) -> dict[str, Any]:
        from xdpguard.tcp.text import prefix

        if self._by == "all":
            return {}
        name = self._by.replace("-", "_")
        return {name: key.port if self._by.endswith("port") else prefix(key.address, *self._prefixes)}

    def _lines(self, key: Group, its: Histogram) -> list[str]:
        label = [f"{name.replace('_', ' ')} {value}" for name, value in self._label(key).items()]
        netns = self._names.name(key.netns)
        title = ", ".join([*label, *([f"netns {netns}"] if netns else [])]) or "all connections"
        rows = its.powers()
        largest = max(rows.values())
        ends = [(0 if power == 0 else (1 << power) / self._scale, (1 << power + 1) / self._scale) for power in rows]
        marks = [f"[{_short(low)}, {_short(high)})" for low, high in ends]
        width = max(map(len, [*marks, self._unit]))
        lines = ["", title, f"  {self._unit:>{width}}  {'count':>10}"]
        for mark, number in zip(marks, rows.values(), strict=True):
            bar = "█" * round(_BAR * number / largest) if number else ""
            lines.append(f"  {mark:>{width}}  {number:>10,}  {bar or ('▏' if number else '')}")
        points = ", ".join(f"{share * 100:g} % {_short(its.percentile(share) / self._scale)}" for share in _PERCENTILES)
        count, average = render.counted(its.count, "segment"), _short(its.average / self._scale)
        lines.append(f"  {count}, average {average}; below: {points} {self._unit}")
        return lines


def _short(value: float) -> str:
    """Format a number with four significant digits."""
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.4g}"
