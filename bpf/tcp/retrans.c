/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Retransmitted segments, on the tracepoints tcp:tcp_retransmit_skb and tcp:tcp_retransmit_synack, and what the
 * connections that close meanwhile have sent in all (sock:inet_sock_set_state), for `xdpguard tcp retrans`.
 */
#include "switches.h"
#include "ends.h"
#include "ring.h"
#include "chosen.h"
#include "kind.h"

#if !defined(XG_CB_SEQ) || !defined(XG_SEGMENTS) || !defined(XG_CLOSED)
#error "XG_CB_SEQ, XG_SEGMENTS, XG_CLOSED: place in tcp_skb_cb, segments remembered, whether closes are told"
#endif
#if !defined(XG_TCP_SEGMENTS_OUT)
#error "XG_TCP_SEGMENTS_OUT: place in tcp_sock"
#endif

struct xg_retransmitted {
	u64 at; /* monotonic, ns */
	u64 sk; /* address in the kernel */
	struct xg_ends ends;
	u32 sent;     /* segments the connection has sent, retransmitted ones too */
	u16 segments; /* retransmitted now */
	u8 kind;      /* enum xg_retransmission */
	u8 state;     /* of the socket */
	u8 again;     /* 1: this segment had been retransmitted before */
	u8 zero[7];
};

struct xg_segment {
	u64 sk;
	u32 seq;
	u32 zero;
};

/* Retransmitted segments. Program only. Full: the least recently used entry goes. */
BPF_TABLE("lru_hash", struct xg_segment, u8, segments, XG_SEGMENTS);

static __always_inline void xg_report_retransmission(struct xg_retransmitted *event)
{
	if (event->kind != XG_RESENT_CLOSE && !(1u << event->state & XG_STATES))
		return;
	xg_put(event, sizeof(*event));
}

TRACEPOINT_PROBE(tcp, tcp_retransmit_skb)
{
	struct xg_retransmitted event = { .ends = XG_ENDS_OF(args) };
	const void *sk = args->skaddr, *cb = args->skbaddr + XG_SKB_CB;
	struct xg_segment segment = {};
	u8 yes = 1;

	if (!xg_wanted(&event.ends) || !xg_chosen(args->skaddr))
		return 0;
	event.at = bpf_ktime_get_ns();
	event.sk = segment.sk = (u64)sk;
	event.state = args->state;
	XG_READ_KERNEL(event.segments, cb + XG_CB_SEGMENTS);
	XG_READ_KERNEL(segment.seq, cb + XG_CB_SEQ);
	XG_READ_KERNEL(event.sent, sk + XG_TCP_SEGMENTS_OUT);
	event.kind = xg_kind_of(sk, cb, args->state);
	event.again = !!segments.lookup(&segment);
	/* A loss probe does not mean that the segment was lost. */
	if (!event.again && event.kind != XG_RESENT_LOSS_PROBE)
		segments.update(&segment, &yes);
	xg_report_retransmission(&event);
	return 0;
}

TRACEPOINT_PROBE(tcp, tcp_retransmit_synack)
{
	struct xg_retransmitted event = { .ends = XG_ENDS_OF(args) };

	if (!xg_wanted(&event.ends) || !xg_chosen(args->skaddr))
		return 0;
	event.at = bpf_ktime_get_ns();
	event.sk = (u64)args->req;
	event.state = BPF_TCP_SYN_RECV;
	event.kind = XG_RESENT_SYN_ACK;
	event.segments = 1;
	xg_report_retransmission(&event);
	return 0;
}

#if XG_CLOSED
#if XG_PID
/* struct sock -> 1: closed by the process, so that it no longer has an inode. Program only. Full: the oldest goes. */
BPF_TABLE("lru_hash", u64, u8, given_up, XG_INODES);

static __always_inline int xg_mine(const void *sk, int old_state, int new_state)
{
	u64 key = (u64)sk;
	u8 yes = 1;

	if (xg_is_own(old_state, new_state) && bpf_get_current_pid_tgid() >> 32 == XG_PID)
		given_up.update(&key, &yes);
	if (new_state != BPF_TCP_CLOSE)
		return 0;
	if (!given_up.lookup(&key))
		return xg_chosen(sk);
	given_up.delete(&key);
	return 1;
}
#else
#define xg_mine(sk, old_state, new_state) (new_state == BPF_TCP_CLOSE)
#endif

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	struct xg_retransmitted event = {};

	if (args->protocol != IPPROTO_TCP || args->oldstate == BPF_TCP_LISTEN)
		return 0;
	if (!xg_mine(args->skaddr, args->oldstate, args->newstate))
		return 0;
	event.ends = XG_ENDS_OF(args);
	if (!xg_wanted(&event.ends))
		return 0;
	event.at = bpf_ktime_get_ns();
	event.sk = (u64)args->skaddr;
	event.state = args->oldstate;
	XG_READ_KERNEL(event.sent, args->skaddr + XG_TCP_SEGMENTS_OUT);
	xg_report_retransmission(&event);
	return 0;
}
#endif
