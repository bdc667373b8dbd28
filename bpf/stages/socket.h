/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queries to the kernel: whose socket does this segment belong to, and what does its owner allow?
 *
 * Fields of kernel structs are read at offsets from the kernel's own type information (xdpguard/dataplane/sys/btf.py),
 * so that a setting takes effect as soon as it is made, with or without a controller.
 */
#ifndef XG_STAGES_SOCKET_H
#define XG_STAGES_SOCKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "../families.h"
#include "../maps.h"
#include "../packet.h"
#include "work.h"

#define XG_SOCK_RCVBUF_LOCK 2 /* include/net/sock.h */
#define XG_TIMESTAMPS_PLAIN 2 /* tcp_timestamps without a random offset for each connection */

/*
 * The socket in the interface's namespace, listeners included, or NULL. To be released. `udp` is a constant: the
 * verifier distinguishes sockets of TCP, with requests and timewait sockets among them, from those of UDP.
 */
static __always_inline struct bpf_sock *xg_socket_of(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 size,
						     bool udp)
{
	return udp ? bpf_sk_lookup_udp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0)
		   : bpf_skc_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
}

/* The tuple for such a lookup, of addresses as they are in the packet; returns its size. Ports: network byte order. */
static __always_inline u32 xg_fill_tuple(struct bpf_sock_tuple *tuple, u32 ip_version, const u64 *source,
					 const u64 *destination, u16 source_port, u16 destination_port)
{
	if (ip_version == 4) {
		tuple->ipv4.saddr = *(const u32 *)source;
		tuple->ipv4.daddr = *(const u32 *)destination;
		tuple->ipv4.sport = source_port;
		tuple->ipv4.dport = destination_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, source, sizeof(tuple->ipv6.saddr));
	__builtin_memcpy(tuple->ipv6.daddr, destination, sizeof(tuple->ipv6.daddr));
	tuple->ipv6.sport = source_port;
	tuple->ipv6.dport = destination_port;
	return sizeof(tuple->ipv6);
}

static __always_inline struct bpf_sock *xg_socket(struct xdp_md *ctx, const struct xg_packet *packet, bool udp)
{
	struct bpf_sock_tuple tuple;
	u32 size = xg_fill_tuple(&tuple, packet->ip_version, packet->source.halves, packet->destination.halves,
				 packet->source_port, packet->destination_port);

	return xg_socket_of(ctx, &tuple, size, udp);
}

/* The headers again, at the offsets that parse/ has found; NULL if they are not in the first buffer. */
static __always_inline void *xg_network(struct xdp_md *ctx, const struct xg_packet *packet)
{
	void *at = (void *)(long)ctx->data + xg_within(packet->network_at, XG_NETWORK_BOUND);

	/* With its TCP header, an IPv4 packet is as long as that, too. */
	return at + sizeof(struct ipv6hdr) <= (void *)(long)ctx->data_end ? at : NULL;
}

static __always_inline struct tcphdr *xg_transport(struct xdp_md *ctx, const struct xg_packet *packet)
{
	struct tcphdr *tcp = (void *)(long)ctx->data + xg_within(packet->transport_at, XG_TRANSPORT_BOUND);

	return (void *)(tcp + 1) <= (void *)(long)ctx->data_end ? tcp : NULL;
}

/* After the TCP header; nothing is known of what is there. */
static __always_inline void *xg_behind_transport(struct xdp_md *ctx, const struct xg_packet *packet)
{
	return (void *)(long)ctx->data + xg_within(packet->transport_at + sizeof(struct tcphdr), XG_TRANSPORT_BOUND);
}

/*
 * Whether the frame's MAC address is that of the interface or of a device above it, so that it is for this host's own
 * stack: not for a guest or a container.
 */
static __always_inline bool xg_own_frame(struct xdp_md *ctx, const struct xg_guard *guard)
{
	u16 *words = (void *)(long)ctx->data;
	u64 mac;

	if (!guard->mac)
		return true;
	if ((void *)(words + 3) > (void *)(long)ctx->data_end)
		return false;
	mac = (u64)words[0] | (u64)words[1] << 16 | (u64)words[2] << 32;
	return mac == guard->mac || (guard->more_macs && macs.lookup(&mac));
}

/*
 * Whether a segment without a socket may still belong to somebody else: addresses are translated here, or the frame
 * carries a VLAN tag, so that its socket may be bound to the VLAN's own interface, which is not looked up here.
 */
static __always_inline bool xg_may_be_anothers(const struct xg_packet *packet, const struct xg_guard *guard)
{
	return guard->pass_unknown || packet->network_at > sizeof(struct ethhdr);
}

/* Whether the host would forward the packet. Quick where forwarding is off. */
static __always_inline bool xg_forwarded(struct xdp_md *ctx, const struct xg_packet *packet)
{
	struct bpf_fib_lookup route = { .ifindex = ctx->ingress_ifindex };
	long answer;

	if (packet->ip_version == 4) {
		route.family = XG_AF_INET;
		route.ipv4_src = packet->source.ipv4;
		route.ipv4_dst = packet->destination.ipv4;
	} else {
		route.family = XG_AF_INET6;
		__builtin_memcpy(route.ipv6_src, packet->source.ipv6, sizeof(route.ipv6_src));
		__builtin_memcpy(route.ipv6_dst, packet->destination.ipv6, sizeof(route.ipv6_dst));
	}
	answer = bpf_fib_lookup(ctx, &route, sizeof(route), 0);
	return answer != BPF_FIB_LKUP_RET_FWD_DISABLED && answer != BPF_FIB_LKUP_RET_NOT_FWDED;
}

#if XG_BTF
#define XG_FIELD(type, at, place) (*(type *)((at) + (place)))

/* False when the kernel does not tell. */
static __always_inline bool xg_read_listener(struct bpf_sock *sock, struct xg_listener *listener)
{
	void *tcp = bpf_skc_to_tcp_sock(sock), *net;
	u32 backlog;

	if (!tcp)
		return false;
	net = XG_FIELD(void *, tcp, XG_SOCK_NET);
	if (!net)
		return false;
	/* TCP_DEFAULT_SCALING_RATIO: half of the buffer is overhead. */
	listener->space = XG_FIELD(u32, tcp, XG_SOCK_RCVBUF) >> 1;
	listener->clamp = XG_FIELD(u32, tcp, XG_TCP_WINDOW_CLAMP);
	if ((XG_FIELD(u8, tcp, XG_SOCK_USERLOCKS) >> XG_SOCK_USERLOCKS_SHIFT) & XG_SOCK_RCVBUF_LOCK &&
	    (!listener->clamp || listener->clamp > listener->space))
		listener->clamp = listener->space;
	listener->user_mss = XG_FIELD(u16, tcp, XG_TCP_USER_MSS);
	backlog = XG_FIELD(u32, tcp, XG_SOCK_MAX_BACKLOG);
	/* A backlog of 0 still takes one. */
	listener->full = XG_FIELD(u32, tcp, XG_SOCK_QUEUE_LENGTH) >= (backlog ? backlog : 1);
	listener->options = XG_FIELD(u8, net, XG_NET_TIMESTAMPS) == XG_TIMESTAMPS_PLAIN;
	listener->sack = XG_FIELD(u8, net, XG_NET_SACK);
	listener->window_scaling = XG_FIELD(u8, net, XG_NET_WINDOW_SCALING);
	listener->rmem = XG_FIELD(u32, net, XG_NET_RMEM + 2 * sizeof(u32));
	return true;
}

/*
 * Whether a segment that belongs to a handshake begun by the listener acknowledges the SYN-ACK: only a host that
 * received it knows its number. Any other segment of the same tuple proves nothing.
 */
static __always_inline bool xg_acknowledges(struct xdp_md *ctx, struct bpf_sock *sock, const struct xg_packet *packet)
{
	void *request = bpf_skc_to_tcp_request_sock(sock);
	struct tcphdr *tcp = xg_transport(ctx, packet);

	if (!tcp || (packet->tcp_flags & (XG_SYN | XG_RST | XG_ACK)) != XG_ACK)
		return false;
	/* Multipath TCP and sockmaps have requests of their own whose number is not available: any ACK counts there. */
	if (!request)
		return true;
	return bpf_ntohl(tcp->ack_seq) == XG_FIELD(u32, request, XG_REQUEST_ISN) + 1;
}
#else
static __always_inline bool xg_read_listener(struct bpf_sock *sock, struct xg_listener *listener)
{
	return false;
}

static __always_inline bool xg_acknowledges(struct xdp_md *ctx, struct bpf_sock *sock, const struct xg_packet *packet)
{
	return false;
}
#endif

#endif
