# SPDX-License-Identifier: GPL-2.0
"""The data plane's lists asked for a hundred thousand addresses at once: which entry decides about each."""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

from support.bench import Bench
from xdpguard.dataplane.sys import kernel

MOST = 1 << 17
ALLOWED, BLOCKED, LISTED = 1, 2, 3
ASK = np.dtype([("high", "<u8"), ("low", "<u8"), ("version", "<u4"), ("zero", "<u4")])

_MAIN = "int xdpguard(struct xdp_md *ctx)"
_ASKING = """
struct ask {
	u64 high;
	u64 low;
	u32 version;
	u32 zero;
};
BPF_F_TABLE("array:" XG_PINS "/asks", u32, struct ask, asks, %(most)d, BPF_F_MMAPABLE);
BPF_F_TABLE("array:" XG_PINS "/answers", u32, u64, answers, %(most)d, BPF_F_MMAPABLE);
BPF_TABLE_PINNED("array", u32, u32, asked, 1, XG_PINS "/asked");

static __always_inline u64 ask_lists(struct xg_packet *packet, const struct xg_settings *settings)
{
	struct xg_rule *rule = xg_allowed(packet, settings);
	u64 end;
	u32 list;

	if (rule)
		return 1ull << 32 | rule->slot;
	rule = xg_denied(packet, settings);
	if (rule)
		return 2ull << 32 | rule->slot;
	list = packet->ip_version == 4 ? xg_listed4(packet, settings, &end) : xg_listed6(packet, settings, &end);
	return list == XG_UNLISTED ? 0 : 3ull << 32 | list;
}

int xdpguard(struct xdp_md *ctx)
{
	struct xg_packet four = { .ip_version = 4 }, six = { .ip_version = 6 };
	u32 zero = 0, place, *next = asked.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	struct ask *ask;
	u64 *answer;

	if (!next || !rules)
		return XDP_ABORTED;
	place = (*next)++;
	ask = asks.lookup(&place);
	answer = answers.lookup(&place);
	if (!ask || !answer)
		return XDP_ABORTED;
	if (ask->version == 4) {
		four.source.ipv4 = bpf_htonl(ask->low);
		*answer = ask_lists(&four, rules);
	} else {
		six.source.ipv6[0] = bpf_htonl(ask->high >> 32);
		six.source.ipv6[1] = bpf_htonl(ask->high);
		six.source.ipv6[2] = bpf_htonl(ask->low >> 32);
		six.source.ipv6[3] = bpf_htonl(ask->low);
		*answer = ask_lists(&six, rules);
	}
	return XDP_PASS;
}
"""


def edit(bundle: str) -> str:
    """The program with another main function."""
    assert _MAIN in bundle
    return bundle.replace(_MAIN, "static __always_inline int not_called(struct xdp_md *ctx)") + _ASKING % {"most": MOST}


class Asking:
    """A bench whose program is asked for addresses. Close it."""

    def __init__(self) -> None:
        self.bench = Bench("asking", edit, fake_clock=True)
        self._asks: NDArray[np.void] = np.frombuffer(self._mapped("asks", ASK.itemsize), ASK, MOST)
        self._answers: NDArray[np.uint64] = np.frombuffer(self._mapped("answers", 8), np.uint64, MOST)

    def close(self) -> None:
        """Frees everything."""
        self.bench.close()

    def ask(self, asks: NDArray[np.void]) -> list[tuple[int, int]]:
        """For each address what decides, and its slot or number; (0, 0) when nothing does."""
        assert asks.size <= MOST
        self._asks[: asks.size] = asks
        self._answers[: asks.size] = np.uint64(99 << 32)
        descriptor = self.bench.pins.open("asked", 4, 4)
        kernel.update(descriptor, bytes(4), bytes(4))
        os.close(descriptor)
        kernel.test_run(self.bench.fd, bytes(64), asks.size)
        found = self._answers[: asks.size].copy()
        return list(zip((found >> np.uint64(32)).tolist(), (found & np.uint64(0xFFFFFFFF)).tolist(), strict=True))

    def _mapped(self, name: str, size: int) -> mmap.mmap:
        descriptor = self.bench.pins.open(name, 4, size)
        try:
            return mmap.mmap(descriptor, -(-MOST * size // mmap.PAGESIZE) * mmap.PAGESIZE)
        finally:
            os.close(descriptor)
