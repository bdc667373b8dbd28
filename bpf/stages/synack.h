/* SPDX-License-Identifier: GPL-2.0 */
/* The TCP header of a SYN-ACK that carries a cookie, as the listener itself would write it: window, MSS, options. */
#ifndef XG_STAGES_SYNACK_H
#define XG_STAGES_SYNACK_H

#include "../algo/checksum.h"
#include "../parse/options.h"
#include "socket.h"

#define XG_WINDOW_MAX 65535
#define XG_MSS_HEADERS4 40 /* IP and TCP */
#define XG_MSS_HEADERS6 60
#define XG_FLAGS_SYNACK 0x12
/* The echoed timestamp carries the options: TS_OPT_* of net/ipv4/syncookies.c. */
#define XG_TS_BITS 6
#define XG_TS_SACK (1 << 4)
#define XG_NS_PER_MS 1000000

static __always_inline u32 xg_mss_option(u16 mss)
{
	return bpf_htonl(XG_OPTION_MSS << 24 | 4 << 16 | mss);
}

/* The options that the kernel can recover from the cookie, one bit each; without the timestamp there are none. */
static __always_inline u32 xg_usable_options(const struct xg_listener *listener, const struct xg_guard_policy *policy)
{
	if (!policy->options || !listener->options)
		return 0;
	return 1 << (XG_OPTION_TIMESTAMPS & 7) | (u32)listener->sack << XG_OPTION_SACK |
	       (u32)listener->window_scaling << XG_OPTION_WSCALE;
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

#endif
