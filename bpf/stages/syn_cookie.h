/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Answers a SYN with a SYN cookie on behalf of the listener, in the form in which the listener accepts it back
 * (net/ipv4/syncookies.c).
 */
#ifndef XG_STAGES_SYN_COOKIE_H
#define XG_STAGES_SYN_COOKIE_H

#include "cookie.h"
#include "reply.h"
#include "socket.h"
#include "synack.h"

/* What becomes of a SYN that asks for an answer. */
enum xg_answered {
	XG_ANSWERED_NOT, /* the kernel gives no cookie: tcp_syncookies is 0, or 1 and the queue has room again */
	XG_ANSWERED,
	XG_ANSWERED_BOUND, /* it carries options that a plain answer does not support: its sender would discard that */
};

/* Answers an initial SYN for a listener. Does not release the socket. */
static __always_inline u32 xg_answer_syn(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
					 const struct xg_guard_policy *policy, u64 now)
{
	const struct xg_packet *packet = &work->packet;
	struct xg_listener *listener = &work->listener;
	struct xg_syn_options *options = &work->options;
	struct tcphdr *tcp = xg_transport(ctx, packet);
	void *network = xg_network(ctx, packet);
	u32 length, mss, usable, scale;
	__be32 sequence;
	s64 cookie;

	if (!network || !tcp)
		return XG_ANSWERED_NOT;
	__builtin_memset(listener, 0, sizeof(*listener));
	if (!xg_read_listener(sock, listener))
		listener->space = XG_WINDOW_MAX;
	sequence = tcp->seq;
	length = (tcp->doff - 5) * 4;
	xg_parse_options(xg_behind_transport(ctx, packet), length, (void *)(long)ctx->data_end, options);
	if (xg_given(options, XG_OPTION_BOUND))
		return XG_ANSWERED_BOUND;
	usable = xg_usable_options(listener, policy);
	options->given &= usable;
	xg_make_plain_syn(packet, sequence, options->mss, &work->plain);
	network = xg_network(ctx, packet);
	if (!network)
		return XG_ANSWERED_NOT;
	cookie = xg_cookie_of_listener(sock, packet, network, &work->plain);
	if (cookie < 0)
		return XG_ANSWERED_NOT;
	mss = xg_own_mss(ctx, packet, listener);
	scale = options->given ? xg_window_scale(listener, policy->rmem_max) : 0;
	xg_write_options(&work->answer, options, mss, scale, now);
	xg_write_header(&work->answer, packet, cookie, sequence, xg_first_window(listener, mss));
	return XG_ANSWERED;
}

/* Answers an initial SYN for a port that nobody listens on, without options. */
static __always_inline bool xg_answer_for_nobody(struct xdp_md *ctx, struct xg_work *work)
{
	const struct xg_packet *packet = &work->packet;
	struct tcphdr *tcp = xg_transport(ctx, packet);
	void *network = xg_network(ctx, packet);
	__be32 sequence;
	s64 cookie;

	if (!network || !tcp)
		return false;
	sequence = tcp->seq;
	xg_make_plain_syn(packet, sequence, 0, &work->plain);
	cookie = xg_cookie_of_nobody(packet, network, &work->plain);
	if (cookie < 0)
		return false;
	__builtin_memset(&work->listener, 0, sizeof(work->listener));
	__builtin_memset(&work->answer, 0, sizeof(work->answer));
	work->answer.options[0] = xg_mss_option(xg_own_mss(ctx, packet, &work->listener));
	work->answer.option_words = 1;
	xg_write_header(&work->answer, packet, cookie, sequence, XG_WINDOW_MAX);
	return true;
}

#endif
