/* SPDX-License-Identifier: GPL-2.0 */
/*
 * At an interface's egress (tc, clsact): remembers what was sent to whom, so that the default knows what answers it. It
 * changes no frame and decides nothing.
 *
 * TCP is remembered only if the default does not find its socket by itself: connections whose addresses are translated
 * here, of containers or this host's own, and sockets bound to a VLAN or VRF. Everything else that leaves is
 * remembered.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include "sent.h"

#define XG_SENT_TAGS 2
#define XG_SENT_OFFSET 0x1fff /* of an IPv4 fragment */
#define XG_SENT_ECHO 8        /* RFC 792, RFC 4443 */
#define XG_SENT_ECHO6 128
#define XG_SENT_SYN_ACK 0x12
#define XG_SENT_RST 0x04
#define XG_SENT_GROUP 1             /* of the first byte of a MAC address: a group's */
#define XG_SENT_FRESH 1000000000ull /* ns for which an entry is not written again */

/* The beginning of a TCP header; of others the first bytes are read. */
struct xg_sent_ends {
	__be16 local;
	__be16 remote;
	__be16 identifier; /* of an ICMP echo */
	__be16 rest[3];
	u8 offset;
	u8 flags;
};

/* Where the network header begins; 0 if it is not an IP packet. */
static __always_inline u32 xg_network_of(struct __sk_buff *skb, __be16 *type)
{
	u32 at = ETH_HLEN - sizeof(*type);
	int i;

#pragma unroll
	for (i = 0; i <= XG_SENT_TAGS; i++) {
		if (bpf_skb_load_bytes(skb, at, type, sizeof(*type)))
			return 0;
		at += sizeof(*type);
		if (*type == bpf_htons(ETH_P_IP) || *type == bpf_htons(ETH_P_IPV6))
			return at;
		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD))
			return 0;
		at += sizeof(*type);
	}
	return 0;
}

/* Where the transport header begins; 0 for a later fragment. */
static __always_inline u32 xg_read_ipv4(struct __sk_buff *skb, u32 at, struct xg_sent_key *key)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.frag_off & bpf_htons(XG_SENT_OFFSET))
		return 0;
	__builtin_memcpy(key->address, &ip.daddr, sizeof(ip.daddr));
	key->ip_version = 4;
	key->protocol = ip.protocol;
	return at + ip.ihl * 4;
}

static __always_inline u32 xg_read_ipv6(struct __sk_buff *skb, u32 at, struct xg_sent_key *key)
{
	struct ipv6hdr ip;
	struct {
		u8 next;
		u8 zero;
		__be16 fragment;
		__be32 identification;
	} part;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
		return 0;
	__builtin_memcpy(key->address, &ip.daddr, sizeof(key->address));
	key->ip_version = 6;
	key->protocol = ip.nexthdr;
	at += sizeof(ip);
	if (key->protocol != IPPROTO_FRAGMENT)
		return at;
	if (bpf_skb_load_bytes(skb, at, &part, sizeof(part)) || part.fragment & bpf_htons(0xfff8))
		return 0;
	key->protocol = part.next;
	return at + sizeof(part);
}

/*
 * Whether the default finds the socket of a segment by what is in it. It does not where addresses are translated, nor
 * for containers that share the interface, nor for sockets bound to a VLAN or VRF. `answer`: it is a SYN-ACK, for which
 * a listener will do: its SYN cookies have no socket, and their ACK proves itself. A forwarded one is a container's,
 * though a proxy may listen on that port here.
 */
static __always_inline bool xg_has_socket(struct __sk_buff *skb, u32 at, const struct xg_sent_key *key, bool answer)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	u32 size = sizeof(tuple.ipv4);
	bool found;

	if (key->ip_version == 4) {
		__builtin_memcpy(&tuple.ipv4.saddr, key->address, sizeof(tuple.ipv4.saddr));
		if (bpf_skb_load_bytes(skb, at + 12, &tuple.ipv4.daddr, sizeof(tuple.ipv4.daddr)))
			return false;
		tuple.ipv4.sport = key->remote_port;
		tuple.ipv4.dport = key->local_port;
	} else {
		size = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, key->address, sizeof(tuple.ipv6.saddr));
		if (bpf_skb_load_bytes(skb, at + 8, tuple.ipv6.daddr, sizeof(tuple.ipv6.daddr)))
			return false;
		tuple.ipv6.sport = key->remote_port;
		tuple.ipv6.dport = key->local_port;
	}
	sock = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sock)
		return false;
	found = sock->state != BPF_TCP_LISTEN || (answer && !skb->ingress_ifindex);
	bpf_sk_release(sock);
	return found;
}

/* Completes the key of a TCP segment. False: it is not remembered. */
static __always_inline bool xg_sent_tcp(struct __sk_buff *skb, u32 network, u32 at, struct xg_sent_key *key,
					bool *answer)
{
	struct xg_sent_ends ends;

	if (bpf_skb_load_bytes(skb, at, &ends, sizeof(ends)) || ends.flags & XG_SENT_RST)
		return false;
	key->local_port = ends.local;
	key->remote_port = ends.remote;
	*answer = (ends.flags & XG_SENT_SYN_ACK) == XG_SENT_SYN_ACK;
	return !xg_has_socket(skb, network, key, *answer);
}

/* The same of any packet. `network`, `at`: where headers begin. */
static __always_inline bool xg_complete(struct __sk_buff *skb, u32 network, u32 at, struct xg_sent_key *key,
					bool *answer)
{
	struct xg_sent_ends ends = {};
	u8 first = 0;

	if (key->protocol == IPPROTO_TCP)
		return xg_sent_tcp(skb, network, at, key, answer);
	if (key->protocol == IPPROTO_UDP || key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, at, &ends, 8))
			return false;
	}
	if (key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6) {
		key->local_port = ends.identifier;
		return *(u8 *)&ends.local == (key->ip_version == 4 ? XG_SENT_ECHO : XG_SENT_ECHO6);
	}
	key->local_port = ends.local;
	key->remote_port = ends.remote;
	if (key->protocol == IPPROTO_UDP && !bpf_skb_load_bytes(skb, 0, &first, sizeof(first)) && first & XG_SENT_GROUP)
		xg_sent_to_group(key);
	return true;
}

static __always_inline void xg_remember(enum xg_sent_map map, struct xg_sent_key *key)
{
	u64 now = bpf_ktime_get_coarse_ns(), *at = xg_sent_at(map, key);

	if (at) {
		if (now - *at > XG_SENT_FRESH)
			*at = now;
	} else if (map == XG_SENT_CONNECTIONS) {
		connections.update(key, &now);
	} else if (map == XG_SENT_SENT) {
		sent.update(key, &now);
	} else {
		served.update(key, &now);
	}
}

int xdpguard_egress(struct __sk_buff *skb)
{
	struct xg_sent_key key = {};
	__be16 type = 0;
	bool answer = false;
	u32 network = xg_network_of(skb, &type), transport;

	if (!network)
		return TC_ACT_UNSPEC;
	transport = type == bpf_htons(ETH_P_IP) ? xg_read_ipv4(skb, network, &key) : xg_read_ipv6(skb, network, &key);
	if (transport && xg_complete(skb, network, transport, &key, &answer))
		xg_remember(xg_sent_map_of(&key, answer), &key);
	/* Programs behind this one go on. */
	return TC_ACT_UNSPEC;
}
