/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Congestion window, slow-start threshold, round-trip time and windows of connections, on the tracepoint tcp:tcp_probe,
 * one sample a connection and interval at most, for `xdpguard tcp cwnd`.
 */
#include "switches.h"
#include "ends.h"
#include "ring.h"
#include "chosen.h"
#include "tcp_probe.h"

#if !defined(XG_SOCKETS) || !defined(XG_EVERY)
#error "XG_SOCKETS, XG_EVERY: sockets that are remembered, least ns between samples"
#endif

struct xg_cwnd_sample {
	u64 at; /* monotonic, ns */
	u64 sk; /* address in the kernel */
	struct xg_ends ends;
	u32 window;         /* congestion window, segments */
	u32 threshold;      /* segments; 0x7fffffff: none yet */
	u32 srtt;           /* us */
	u32 send_window;    /* bytes the other end takes */
	u32 receive_window; /* bytes this end takes */
	u32 flight;         /* bytes sent and not acknowledged */
	u32 skipped;        /* segments since the last sample, that made none */
	u32 closed;         /* 1: the connection has ended, there are no values */
};

struct xg_last {
	u64 at;
	u64 skipped;
};

/* struct sock -> its last sample. Removed when the socket closes; full: the least recently used entry goes. */
BPF_TABLE("lru_hash", u64, struct xg_last, sampled, XG_SOCKETS);

TRACEPOINT_PROBE(tcp, tcp_probe)
{
	const void *sk = XG_TCP_PROBE_SOCKET_OF(args);
	struct xg_cwnd_sample sample = { .ends = XG_TCP_PROBE_ENDS_OF(args, sk) };
	struct xg_last now = {}, *last;

	if (!sk || !xg_wanted(&sample.ends) || !xg_chosen(sk))
		return 0;
	sample.at = now.at = bpf_ktime_get_ns();
	sample.sk = (u64)sk;
	last = sampled.lookup(&sample.sk);
	if (last && now.at - last->at < XG_EVERY) {
		last->skipped++;
		return 0;
	}
	sample.skipped = last ? last->skipped : 0;
	sampled.update(&sample.sk, &now);
	sample.window = args->snd_cwnd;
	sample.threshold = args->ssthresh;
	sample.srtt = args->srtt;
	sample.send_window = args->snd_wnd;
	sample.receive_window = args->rcv_wnd;
	sample.flight = args->snd_nxt - args->snd_una;
	xg_put(&sample, sizeof(sample));
	return 0;
}

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	struct xg_cwnd_sample sample = {};

	if (args->protocol != IPPROTO_TCP || args->newstate != BPF_TCP_CLOSE)
		return 0;
	sample.sk = (u64)args->skaddr;
	if (!sampled.lookup(&sample.sk))
		return 0;
	sampled.delete(&sample.sk);
	sample.at = bpf_ktime_get_ns();
	sample.ends = XG_ENDS_OF(args);
	sample.closed = 1;
	xg_put(&sample, sizeof(sample));
	return 0;
}
