/* SPDX-License-Identifier: GPL-2.0 */
/* Why a segment is retransmitted, read from the connection at the moment it goes out. */
#ifndef XG_TCP_KIND_H
#define XG_TCP_KIND_H

#include "switches.h"
#include "ends.h"

#if !defined(XG_SKB_CB) || !defined(XG_CB_SEGMENTS) || !defined(XG_CB_FLAGS)
#error "XG_SKB_CB, XG_CB_SEGMENTS, XG_CB_FLAGS: places in sk_buff and tcp_skb_cb"
#endif
#if !defined(XG_CONN_CA_STATE) || !defined(XG_CONN_CA_STATE_SHIFT) || !defined(XG_CONN_PENDING)
#error "XG_CONN_CA_STATE, XG_CONN_PENDING: places in inet_connection_sock"
#endif

#define XG_CB_FLAG_SYN 0x02  /* TCPHDR_SYN, include/net/tcp.h */
#define XG_CA_RECOVERY 3     /* enum tcp_ca_state, linux/tcp.h */
#define XG_CA_LOSS 4         /* likewise */
#define XG_CA_MASK 0x1f      /* icsk_ca_state has five bits */
#define XG_PENDING_PROBE 5   /* ICSK_TIME_LOSS_PROBE, include/net/inet_connection_sock.h */
#define XG_PENDING_REORDER 6 /* ICSK_TIME_REO_TIMEOUT: RACK has waited for reordered segments */

enum xg_retransmission {
	XG_RESENT_CLOSE, /* none: the connection closed */
	XG_RESENT_SYN,
	XG_RESENT_SYN_ACK,
	XG_RESENT_LOSS_PROBE,
	XG_RESENT_TIMEOUT,
	XG_RESENT_FAST,
	XG_RESENT_OTHER,
};

/*
 * `cb` is the segment's struct tcp_skb_cb. A timeout puts the connection into the state Loss first, ACKs that tell of
 * lost segments into Recovery.
 */
static __always_inline u8 xg_kind_of(const void *sk, const void *cb, int state)
{
	u8 congestion = 0, pending = 0, flags = 0;

	XG_READ_KERNEL(flags, cb + XG_CB_FLAGS);
	if (flags & XG_CB_FLAG_SYN)
		return state == BPF_TCP_SYN_SENT ? XG_RESENT_SYN : XG_RESENT_SYN_ACK;
	XG_READ_KERNEL(congestion, sk + XG_CONN_CA_STATE);
	congestion = congestion >> XG_CONN_CA_STATE_SHIFT & XG_CA_MASK;
	if (congestion == XG_CA_LOSS)
		return XG_RESENT_TIMEOUT;
	if (congestion == XG_CA_RECOVERY)
		return XG_RESENT_FAST;
	XG_READ_KERNEL(pending, sk + XG_CONN_PENDING);
	if (pending == XG_PENDING_PROBE)
		return XG_RESENT_LOSS_PROBE;
	return pending == XG_PENDING_REORDER ? XG_RESENT_FAST : XG_RESENT_OTHER;
}

#endif
