/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Smoothed round-trip times as histograms, on the tracepoint tcp:tcp_probe, for `xdpguard tcp rtt`: one count for each
 * segment that an established connection receives.
 */
#include "switches.h"
#include "ends.h"
#include "chosen.h"
#include "tcp_probe.h"
#include "histogram.h"

#if !defined(XG_GROUP_REMOTE) || !defined(XG_GROUP_ADDRESS) || !defined(XG_GROUP_PORT) || !defined(XG_GROUPS)
#error "XG_GROUP_REMOTE, XG_GROUP_ADDRESS, XG_GROUP_PORT, XG_GROUPS: which end, of it what (0 or 1), entries"
#endif
#if !defined(XG_GROUP_MASK4) || !defined(XG_GROUP_MASK6_HIGH) || !defined(XG_GROUP_MASK6_LOW)
#error "XG_GROUP_MASK4, XG_GROUP_MASK6_*: masks of the address, as they stand in memory"
#endif

struct xg_group {
	u64 address[2];
	u32 netns;
	u16 port;
	u16 bucket;
};

struct xg_times {
	u64 count;
	u64 sum; /* us */
};

/* Group and bucket -> times. Program writes, the command reads. Full: counted in `times_lost`, nothing goes. */
BPF_TABLE("hash", struct xg_group, struct xg_times, times, XG_GROUPS);
/* [0] -> times that found `times` full, per CPU. */
BPF_TABLE("percpu_array", u32, u64, times_lost, 1);

static __always_inline void xg_group_of(const struct xg_ends *ends, struct xg_group *group)
{
	const u64 *address = (const u64 *)(XG_GROUP_REMOTE ? ends->remote : ends->local);

	if (XG_GROUP_ADDRESS && xg_is_ipv4(ends)) {
		group->address[1] = address[1] & ((u64)XG_GROUP_MASK4 << 32 | 0xffffffff);
	} else if (XG_GROUP_ADDRESS) {
		group->address[0] = address[0] & XG_GROUP_MASK6_HIGH;
		group->address[1] = address[1] & XG_GROUP_MASK6_LOW;
	}
	if (XG_GROUP_PORT)
		group->port = XG_GROUP_REMOTE ? ends->remote_port : ends->local_port;
}

TRACEPOINT_PROBE(tcp, tcp_probe)
{
	const void *sk = XG_TCP_PROBE_SOCKET_OF(args);
	struct xg_ends ends = XG_TCP_PROBE_ENDS_OF(args, sk);
	struct xg_times first = {}, *held;
	struct xg_group group = {};
	u64 *missed;
	u32 zero = 0;

	if (!args->srtt || args->srtt < XG_LONGER || !sk || !xg_wanted(&ends) || !xg_chosen(sk))
		return 0;
	xg_group_of(&ends, &group);
	group.netns = ends.netns;
	group.bucket = xg_bucket_of(args->srtt);
	held = times.lookup_or_try_init(&group, &first);
	if (held) {
		__sync_fetch_and_add(&held->count, 1);
		__sync_fetch_and_add(&held->sum, args->srtt);
		return 0;
	}
	missed = times_lost.lookup(&zero);
	if (missed)
		(*missed)++;
	return 0;
}
