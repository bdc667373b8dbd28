/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's own SYN cookies: made and checked for a listener, or without one (bpf_tcp_gen_syncookie() and its raw
 * variant). Making one marks the listener as overflowed; otherwise it would refuse the ACK.
 */
#ifndef XG_STAGES_COOKIE_H
#define XG_STAGES_COOKIE_H

#include <linux/ip.h>
#include <linux/ipv6.h>

#include "socket.h"
#include "synack.h"

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

/* A cookie without a listener, if the kernel can make one. */
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

#endif
