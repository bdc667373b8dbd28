/* SPDX-License-Identifier: GPL-2.0 */
/* Who judges a segment, the kernel or the guard; and reading the packet again for that. */
#ifndef XG_STAGES_WHOSE_H
#define XG_STAGES_WHOSE_H

#include "local.h"
#include "socket.h"

/* The packet again, from its headers. False when they are not in the first buffer. */
static __always_inline bool xg_take_over(struct xdp_md *ctx, const struct xg_handover *handover,
					 struct xg_packet *packet)
{
	struct tcphdr *tcp;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	packet->ip_version = handover->ip_version;
	packet->suspect = handover->suspect;
	packet->sampled = handover->sampled;
	packet->network_at = handover->network_at;
	packet->transport_at = handover->transport_at;
	ipv4 = xg_network(ctx, packet);
	tcp = xg_transport(ctx, packet);
	if (!ipv4 || !tcp)
		return false;
	ipv6 = (void *)ipv4;
	if (packet->ip_version == 4) {
		packet->source.ipv4 = ipv4->saddr;
		packet->destination.ipv4 = ipv4->daddr;
	} else {
		__builtin_memcpy(&packet->source, &ipv6->saddr, sizeof(packet->source));
		__builtin_memcpy(&packet->destination, &ipv6->daddr, sizeof(packet->destination));
	}
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	packet->tcp_flags = ((u8 *)tcp)[13];
	return true;
}

/* Who is to judge a segment. */
enum xg_whose {
	XG_NOBODYS, /* nobody here: it is forwarded, or belongs to a connection */
	XG_KERNELS, /* the kernel, within a rate: see xg_guard_foreign() */
	XG_OURS,    /* the guard: its socket is a listener of this host, or none */
};

static __always_inline u32 xg_whose(struct xdp_md *ctx, struct xg_work *work, struct bpf_sock *sock,
				    const struct xg_guard *guard)
{
	u32 kind;

	/* A socket of this very tuple: the kernel knows best, but a SYN is not part of an existing connection. */
	if (sock && sock->state != BPF_TCP_LISTEN)
		return sock->state == BPF_TCP_NEW_SYN_RECV || sock->state == BPF_TCP_TIME_WAIT ? XG_KERNELS
											       : XG_NOBODYS;
	kind = xg_destination_kind(ctx, work, guard);
	if (kind == XG_LOCAL_UNICAST)
		return !sock && xg_may_be_anothers(&work->packet, guard) ? XG_KERNELS : XG_OURS;
	/* An address that was added since the tables were written is still this host's. */
	return kind == XG_LOCAL_BROADCAST || xg_forwarded(ctx, &work->packet) ? XG_NOBODYS : XG_KERNELS;
}

/* Whether the policy leaves the destination port alone. */
static __always_inline bool xg_exempt(const struct xg_packet *packet, const struct xg_guard_policy *policy)
{
	u32 port = bpf_ntohs(packet->destination_port);

	return (policy->exempt_ports[port >> 6] >> (port & 63)) & 1;
}

#endif
