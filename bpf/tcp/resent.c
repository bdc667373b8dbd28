/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counts retransmitted segments by namespace and kind, and retransmitted SYN-ACKs by port, on the tracepoints
 * tcp:tcp_retransmit_skb and tcp:tcp_retransmit_synack: for the metrics, and as evidence of floods.
 */
#include "switches.h"
#include "ends.h"
#include "kind.h"

#if !defined(XG_COUNTS)
#error "XG_COUNTS: entries"
#endif

struct xg_resent {
	u32 netns;
	u16 port; /* local; 0 unless it is a SYN-ACK */
	u16 kind; /* enum xg_retransmission */
};

/* What and where -> segments. Program writes, the command reads. Full: the least recently used entry goes. */
BPF_TABLE("lru_hash", struct xg_resent, u64, counts, XG_COUNTS);

static __always_inline void xg_count_resent(const struct xg_resent *what, u64 segments)
{
	u64 zero = 0, *held = counts.lookup_or_try_init((struct xg_resent *)what, &zero);

	if (held)
		__sync_fetch_and_add(held, segments);
}

TRACEPOINT_PROBE(tcp, tcp_retransmit_skb)
{
	const void *cb = args->skbaddr + XG_SKB_CB;
	struct xg_resent what = { .netns = xg_netns_of(args->skaddr) };
	u16 segments = 0;

	if (XG_NETNS && what.netns != XG_NETNS)
		return 0;
	XG_READ_KERNEL(segments, cb + XG_CB_SEGMENTS);
	what.kind = xg_kind_of(args->skaddr, cb, args->state);
	if (what.kind == XG_RESENT_SYN_ACK)
		what.port = args->sport;
	xg_count_resent(&what, segments);
	return 0;
}

TRACEPOINT_PROBE(tcp, tcp_retransmit_synack)
{
	struct xg_resent what = { .netns = xg_netns_of(args->skaddr), .port = args->sport, .kind = XG_RESENT_SYN_ACK };

	if (XG_NETNS && what.netns != XG_NETNS)
		return 0;
	xg_count_resent(&what, 1);
	return 0;
}
