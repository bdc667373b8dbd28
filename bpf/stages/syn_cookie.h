/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Answering a SYN with a SYN cookie, in place of the listener and in the form in which the listener takes it back
 * (net/ipv4/syncookies.c). The cookie is the kernel's own (bpf_tcp_gen_syncookie() and its raw sister), which also
 * marks the listener as overflowed: without that it would refuse the ACK.
 */
#ifndef XG_STAGES_SYN_COOKIE_H
#define XG_STAGES_SYN_COOKIE_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "../algo/checksum.h"
#include "../parse/options.h"
#include "socket.h"

#define XG_TTL 64
#define XG_FRAME_MIN 60 /* octets, without the frame check sequence */
#define XG_WINDOW_MAX 65535
#define XG_MSS_HEADERS4 40 /* IP and TCP */
#define XG_MSS_HEADERS6 60
#define XG_DONT_FRAGMENT 0x4000
#define XG_FLAGS_SYNACK 0x12
#define XG_SYNACK_MIN 24 /* octets: a TCP header with the MSS option */
/* The echoed timestamp carries the options: TS_OPT_* of net/ipv4/syncookies.c. */
#define XG_TS_BITS 6
#define XG_TS_SACK (1 << 4)
#define XG_NS_PER_MS 1000000

static __always_inline u32 xg_mss_option(u16 mss)
{
	return bpf_htonl(XG_OPTION_MSS << 24 | 4 << 16 | mss);
}

static __always_inline void xg_make_plain_syn(const struct xg_packet *packet, __be32 sequence, u16 mss,
					      struct xg_plain_syn *plain)
{
	__builtin_memset(plain, 0, sizeof(*plain));
	plain->header.source = packet->source_port;
	plain->header.dest = packet->destination_port;
	plain->header.seq = sequence;
	plain->header.doff = sizeof(*plain) / 4;
	plain->header.syn = 1;
	plain->mss = mss ? xg_mss_option(mss) : 0x01010101;
}

/* The helper's answer: the cookie, or a negative error. `sock` is a listener. */
static __always_inline s64 xg_cookie_of_listener(struct bpf_sock *sock, const struct xg_packet *packet, void *network,
						 struct xg_plain_syn *plain)
{
	if (packet->ip_version == 4)
		return bpf_tcp_gen_syncookie(sock, network, sizeof(struct iphdr), &plain->header, sizeof(*plain));
	return bpf_tcp_gen_syncookie(sock, network, sizeof(struct ipv6hdr), &plain->header, sizeof(*plain));
}

/* A cookie that no listener stands behind, where the kernel makes such. */
static __always_inline s64 xg_cookie_of_nobody(const struct xg_packet *packet, void *network,
					       struct xg_plain_syn *plain)
{
#if XG_RAW_COOKIES
	if (packet->ip_version == 4)
		return bpf_tcp_raw_gen_syncookie_ipv4(network, &plain->header, sizeof(*plain));
	return bpf_tcp_raw_gen_syncookie_ipv6(network, &plain->header, sizeof(*plain));
#else
	return -1;
#endif
}

static __always_inline long xg_check_cookie_of_nobody(const struct xg_packet *packet, void *network, struct tcphdr *tcp)
{
#if XG_RAW_COOKIES
	return packet->ip_version == 4 ? bpf_tcp_raw_check_syncookie_ipv4(network, tcp)
				       : bpf_tcp_raw_check_syncookie_ipv6(network, tcp);
#else
	return -1;
#endif
}

/* Whether an ACK carries a cookie of this listener, or of nobody (NULL): 0 when it does. */
static __always_inline long xg_check_cookie(struct xdp_md *ctx, struct bpf_sock *sock, const struct xg_packet *packet)
{
	struct tcphdr *tcp = xg_transport(ctx, packet);
	void *network = xg_network(ctx, packet);

	if (!network || !tcp)
		return -1;
	if (!sock)
		return xg_check_cookie_of_nobody(packet, network, tcp);
	if (packet->ip_version == 4)
		return bpf_tcp_check_syncookie(sock, network, sizeof(struct iphdr), tcp, sizeof(*tcp));
	return bpf_tcp_check_syncookie(sock, network, sizeof(struct ipv6hdr), tcp, sizeof(*tcp));
}

/* ilog2() of a number that is not 0. In memory: see verifier.h. */
static __always_inline u32 xg_log2(u64 number)
{
	volatile u8 bits = 0;

	if (number >> 16) {
		number >>= 16;
		bits += 16;
	}
	if (number >> 8) {
		number >>= 8;
		bits += 8;
	}
	if (number >> 4) {
		number >>= 4;
		bits += 4;
	}
	if (number >> 2) {
		number >>= 2;
		bits += 2;
	}
	return bits + (number >> 1);
}

/* The window scale that the kernel will compute again for this listener: tcp_select_initial_window(). */
static __always_inline u32 xg_window_scale(const struct xg_listener *listener, u32 rmem_max)
{
	u64 space = listener->space, bits;

	if (space < listener->rmem)
		space = listener->rmem;
	if (space < rmem_max)
		space = rmem_max;
	if (listener->clamp && space > listener->clamp)
		space = listener->clamp;
	bits = space ? xg_log2(space) : 0;
	if (bits < 15)
		return 0;
	bits -= 15;
	return bits > XG_WSCALE_MAX ? XG_WSCALE_MAX : bits;
}

/* The window of the SYN-ACK, which is never scaled: what the listener starts with, whole segments. */
static __always_inline u32 xg_first_window(const struct xg_listener *listener, u32 mss)
{
	u64 space = listener->space;

	if (listener->clamp && space > listener->clamp)
		space = listener->clamp;
	if (mss && space > mss)
		space -= space % mss;
	return space < XG_WINDOW_MAX ? space : XG_WINDOW_MAX;
}

/* What this host can receive: the interface's MTU without headers, or less when the listener says so. */
static __always_inline u32 xg_own_mss(struct xdp_md *ctx, const struct xg_packet *packet,
				      const struct xg_listener *listener)
{
	u32 headers = packet->ip_version == 4 ? XG_MSS_HEADERS4 : XG_MSS_HEADERS6;
	u32 mtu = 0, mss;

	bpf_check_mtu(ctx, 0, &mtu, 0, 0);
	mss = mtu > headers ? mtu - headers : 0;
	if (mss > XG_WINDOW_MAX)
		mss = XG_WINDOW_MAX;
	return listener->user_mss && listener->user_mss < mss ? listener->user_mss : mss;
}

/* The timestamp that carries the options, not in the future: cookie_init_timestamp(). */
static __always_inline u32 xg_cookie_timestamp(const struct xg_syn_options *options, u64 now)
{
	u32 present = now / XG_NS_PER_MS, stamp;
	u32 carried = xg_given(options, XG_OPTION_WSCALE) ? options->wscale : XG_WSCALE_NONE;

	if (xg_given(options, XG_OPTION_SACK))
		carried |= XG_TS_SACK;
	stamp = (present >> XG_TS_BITS << XG_TS_BITS) | carried;
	if (stamp > present)
		stamp -= 1 << XG_TS_BITS;
	return stamp;
}

/* Options in the order the kernel sends them: tcp_options_write(). */
static __always_inline void xg_write_options(struct xg_synack *answer, const struct xg_syn_options *options, u32 mss,
					     u32 scale, u64 now)
{
	__builtin_memset(answer, 0, sizeof(*answer));
	answer->options[0] = xg_mss_option(mss);
	answer->option_words = 1;
	if (!xg_given(options, XG_OPTION_TIMESTAMPS))
		return;
	answer->options[1] = xg_given(options, XG_OPTION_SACK) ? bpf_htonl(0x0402080a) : bpf_htonl(0x0101080a);
	answer->options[2] = bpf_htonl(xg_cookie_timestamp(options, now));
	answer->options[3] = options->timestamp;
	answer->option_words = 4;
	if (!xg_given(options, XG_OPTION_WSCALE))
		return;
	answer->options[4] = bpf_htonl(0x01030300 | scale);
	answer->option_words = 5;
}

static __always_inline u64 xg_pseudo_sum(const struct xg_packet *packet, u32 length)
{
	u64 sum = bpf_htonl(IPPROTO_TCP) + (u64)bpf_htonl(length);

	if (packet->ip_version == 4)
		return sum + packet->source.ipv4 + packet->destination.ipv4;
	return sum + xg_sum4(packet->source.ipv6) + xg_sum4(packet->destination.ipv6);
}

static __always_inline void xg_write_header(struct xg_synack *answer, const struct xg_packet *packet, u32 cookie,
					    __be32 sequence, u32 window)
{
	u32 length = (5 + answer->option_words) * 4;

	answer->words[0] = packet->destination_port | (u32)packet->source_port << 16;
	answer->words[1] = bpf_htonl(cookie);
	answer->words[2] = bpf_htonl(bpf_ntohl(sequence) + 1);
	answer->words[3] = bpf_htonl((length / 4) << 28 | XG_FLAGS_SYNACK << 16 | window);
	/* Words that are not sent are zero, and add nothing. */
	answer->words[4] = xg_fold(xg_pseudo_sum(packet, length) + xg_sum4(answer->words) + xg_sum4(answer->options) +
				   answer->options[4]);
}

static __always_inline void xg_swap_macs(struct ethhdr *ethernet)
{
	u8 destination[ETH_ALEN];

	__builtin_memcpy(destination, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, destination, ETH_ALEN);
}

/* The frame as long as it must be. A frame that is a little longer stays as it is: what is behind counts as padding. */
static __always_inline bool xg_fit_frame(struct xdp_md *ctx, u64 wanted)
{
	u64 length = ctx->data_end - ctx->data;

	if (wanted < XG_FRAME_MIN)
		wanted = XG_FRAME_MIN;
	return length == wanted || !bpf_xdp_adjust_tail(ctx, (int)(wanted - length));
}

static __always_inline void *xg_write_ipv4(void *at, const struct xg_packet *packet, u32 length)
{
	struct iphdr *ip = at;
	struct {
		u32 words[5];
	} header = { { bpf_htonl(0x45000000 | length), bpf_htonl(XG_DONT_FRAGMENT),
		       bpf_htonl(XG_TTL << 24 | IPPROTO_TCP << 16), packet->destination.ipv4, packet->source.ipv4 } };

	__builtin_memcpy(ip, &header, sizeof(header));
	ip->check = xg_fold(xg_sum4(header.words) + header.words[4]);
	return ip + 1;
}

static __always_inline void *xg_write_ipv6(void *at, const struct xg_packet *packet, u32 length)
{
	u32 *words = at;

	words[0] = bpf_htonl(6 << 28);
	words[1] = bpf_htonl(length << 16 | IPPROTO_TCP << 8 | XG_TTL);
	__builtin_memcpy(words + 2, &packet->destination, sizeof(packet->destination));
	__builtin_memcpy(words + 6, &packet->source, sizeof(packet->source));
	return words + 10;
}

/*
 * Turns the frame into the answer; the VLAN tags stay. False when the frame cannot be made as long as it must be, and
 * then nothing has changed.
 */
static __always_inline bool xg_write_frame(struct xdp_md *ctx, const struct xg_packet *packet,
					   const struct xg_synack *answer)
{
	u64 link = xg_within(packet->network_at, XG_NETWORK_BOUND);
	u32 ip = packet->ip_version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	u32 tcp = (5 + answer->option_words) * 4;
	void *frame, *at, *end;
	u32 *words;

	if (!xg_fit_frame(ctx, link + ip + tcp))
		return false;
	frame = (void *)(long)ctx->data;
	at = frame + link;
	end = (void *)(long)ctx->data_end;
	if (frame + sizeof(struct ethhdr) > end)
		return false;
	if (packet->ip_version == 4) {
		if (at + sizeof(struct iphdr) + XG_SYNACK_MIN > end)
			return false;
		words = xg_write_ipv4(at, packet, ip + tcp);
	} else {
		if (at + sizeof(struct ipv6hdr) + XG_SYNACK_MIN > end)
			return false;
		words = xg_write_ipv6(at, packet, tcp);
	}
	xg_swap_macs(frame);
	__builtin_memcpy(words, answer->words, sizeof(answer->words));
	words[5] = answer->options[0];
	if (answer->option_words >= 4 && (void *)(words + 9) <= end)
		__builtin_memcpy(words + 6, answer->options + 1, 3 * sizeof(u32));
	if (answer->option_words == 5 && (void *)(words + 10) <= end)
		words[9] = answer->options[4];
	return true;
}

/* The options that the kernel can recover from the cookie, a bit each; without the timestamp's there are none. */
static __always_inline u32 xg_usable_options(const struct xg_listener *listener, const struct xg_guard_policy *policy)
{
	if (!policy->options || !listener->options)
		return 0;
	return 1 << (XG_OPTION_TIMESTAMPS & 7) | (u32)listener->sack << XG_OPTION_SACK |
	       (u32)listener->window_scaling << XG_OPTION_WSCALE;
}

/* What becomes of a SYN that asks for an answer. */
enum xg_answered {
	XG_ANSWERED_NOT, /* the kernel gives no cookie: tcp_syncookies is 0, or 1 and the queue has room again */
	XG_ANSWERED,
	XG_ANSWERED_BOUND, /* it carries options of which a plain answer makes nothing: its sender would discard that */
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
