/* SPDX-License-Identifier: GPL-2.0 */
/* Counts changes of TCP sockets' states by namespace, for `xdpguard tcp states --watch` and the metrics. */
#include "switches.h"
#include "ends.h"

#if !defined(XG_NAMESPACES)
#error "XG_NAMESPACES: entries"
#endif

#define XG_STATE_COUNT 13 /* include/net/tcp_states.h, TCP_MAX_STATES */

struct xg_changes {
	u64 count[XG_STATE_COUNT][XG_STATE_COUNT]; /* from, to */
};

/* Inode number of the namespace -> changes. Program writes, the command reads. Full: that of an old one goes. */
BPF_TABLE("lru_hash", u32, struct xg_changes, changes, XG_NAMESPACES);
/* [0] -> all zero: too large for the stack. */
BPF_TABLE("percpu_array", u32, struct xg_changes, nothing, 1);

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	u32 zero = 0, from = args->oldstate, to = args->newstate, netns;
	struct xg_changes *held, *first;

	/* close() after shutdown() reports FIN_WAIT1 once more. */
	if (args->protocol != IPPROTO_TCP || from == to || from >= XG_STATE_COUNT || to >= XG_STATE_COUNT)
		return 0;
	netns = xg_netns_of(args->skaddr);
	if (XG_NETNS && netns != XG_NETNS)
		return 0;
	held = changes.lookup(&netns);
	if (!held) {
		first = nothing.lookup(&zero);
		if (!first)
			return 0;
		held = changes.lookup_or_try_init(&netns, first);
		if (!held)
			return 0;
	}
	__sync_fetch_and_add(&held->count[from][to], 1);
	return 0;
}
