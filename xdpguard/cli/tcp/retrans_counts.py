# SPDX-License-Identifier: GPL-2.0
"""tcp retrans --count: retransmitted segments by connection, remote prefix or listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from xdpguard.cli import render
from xdpguard.cli.columns import Cell, Column, Row, number
from xdpguard.cli.tcp import loop

if TYPE_CHECKING:
    from xdpguard.cli.answers.tcp import Resent
    from xdpguard.net.netns import Place
    from xdpguard.tcp.filters import Filter
    from xdpguard.tcp.retrans import Retransmissions
    from xdpguard.tcp.tally import Counted, Key

By = Literal["connection", "remote", "listener"]
PAUSE = 0.05  # seconds between two readings


def count_by(
    running: Retransmissions,
    chosen: Filter,
    netns: str,
    by: By,
    prefixes: tuple[int, int],
    top: int,
    until: float | None,
    as_json: bool,
) -> None:
    """Count until the end, and print the groups."""
    from xdpguard.tcp import tally

    grouping = {
        "connection": tally.by_connection,
        "listener": tally.by_listener(),
        "remote": tally.by_remote(*prefixes),
    }[by]
    counting = tally.Tally(chosen, grouping)
    counting.begin(_places(netns), running.inodes.held)
    running.read()  # discard events that may be older than the first counts
    for _ in loop.rounds("counting retransmissions", PAUSE, until):
        running.inodes.refresh()
        counting.add(running.read())
    groups = counting.finish(_places(netns), running.inodes.held, running.read)
    chosen_groups = sorted(groups.items(), key=lambda item: (-item[1].segments, -item[1].sent, item[0]))
    _Counts(by, prefixes).show(chosen_groups, counting.rest, top, as_json)


def _places(netns: str) -> list[Place]:
    from xdpguard.net import netns as namespaces
    from xdpguard.net.netns import NoSuchNamespace

    # The current ones: connections come and go while segments are counted.
    if not netns:
        return namespaces.all_places()
    try:
        return [namespaces.find(netns)]
    except NoSuchNamespace:
        return []


class _Counts:
    """Prints groups with what they have retransmitted."""

    def __init__(self, by: By, prefixes: tuple[int, int]) -> None:
        from xdpguard.tcp.namespaces import Names

        self._by = by
        self._prefixes = prefixes
        self._names = Names()

    def show(self, groups: list[tuple[Key, Counted]], rest: Counted, top: int, as_json: bool) -> None:
        """Print the groups and their total."""
        from xdpguard.tcp.tally import Counted

        total = Counted()
        for its in [rest, *(its for _, its in groups)]:
            total.again += its.again
            total.sent += its.sent
            for kind, segments in its.kinds.items():
                total.kinds[kind] += segments
        shown = groups[: top or None]
        if as_json:
            from xdpguard.cli.answers.tcp import ResentCounts

            rows = [_answer(its, self._label(key)) for key, its in shown]
            left_out = len(groups) - len(shown)
            document = ResentCounts(by=self._by, groups=rows, groups_left_out=left_out, total=_answer(total, {}))
            loop.write([render.json_line(document)])
            return
        kinds = [kind for kind, number in total.kinds.items() if number]
        cells: list[Row] = [[*self._label(key).values(), *_cells(its, kinds)] for key, its in shown]
        width = len(self._label(groups[0][0])) if groups else 2
        cells.append(["all", *[""] * (width - 1), *_cells(total, kinds)])
        names = [Column("netns", 2), *map(Column, [*self._label(groups[0][0])][1:] if groups else [self._by])]
        numbers = [Column("retransmitted", right=True), *(Column(it, 1, right=True) for it in kinds)]
        numbers += [Column("lost again", 3, right=True), Column("sent", 4, right=True), Column("ratio", right=True)]
        render.print_table([*names, *numbers], cells)
        if len(groups) > len(shown):
            render.say(f"and {len(groups) - len(shown):,} more; --top 0 shows all")

    def _label(self, key: Key) -> dict[str, str]:
        from xdpguard.tcp.text import end, prefix

        netns, local, local_port, remote, remote_port = key
        name = {"netns": self._names.name(netns) or "-"}
        if self._by == "remote":
            return name | {"remote": prefix(remote, *self._prefixes)}
        if self._by == "listener":
            return name | {"listener": end(local, local_port) if local else "none"}
        return name | {"local": end(local, local_port), "remote": end(remote, remote_port)}


def _answer(its: Counted, label: dict[str, str]) -> Resent:
    from xdpguard.cli.answers.tcp import Resent

    return Resent(
        **label,
        retransmitted=its.segments,
        kinds=its.kinds,
        lost_again=its.again,
        sent=its.sent,
        ratio=None if its.ratio is None else round(its.ratio, 6),
    )


def _cells(its: Counted, kinds: list[str]) -> list[Cell]:
    ratio = its.ratio
    numbers = [its.segments, *(its.kinds[kind] for kind in kinds), its.again, its.sent]
    share = Cell("-") if ratio is None else Cell(f"{ratio * 100:.2f} %", f"{ratio:.6f}")
    return [*map(number, numbers), share]
