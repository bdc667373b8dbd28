/* SPDX-License-Identifier: GPL-2.0 */
/* Turns a frame into its answer: swaps the addresses, rewrites the headers, adjusts the length. */
#ifndef XG_STAGES_REPLY_H
#define XG_STAGES_REPLY_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "../algo/checksum.h"
#include "work.h"

#define XG_TTL 64
#define XG_FRAME_MIN 60 /* bytes, without the frame check sequence */
#define XG_DONT_FRAGMENT 0x4000
#define XG_SYNACK_MIN 24 /* bytes: a TCP header with the MSS option */

static __always_inline void xg_swap_macs(struct ethhdr *ethernet)
{
	u8 destination[ETH_ALEN];

	__builtin_memcpy(destination, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, destination, ETH_ALEN);
}

/*
 * Brings the frame to the required length. A frame that is slightly longer stays as it is: the rest counts as padding.
 */
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
 * Turns the frame into the answer; VLAN tags stay. Returns false, with nothing changed, if the frame cannot be brought
 * to the required length.
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

#endif
