/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shadow entries: rules and lists that only count what they would drop, by class of packet. They are looked up for
 * every packet that no entry denies, and change no verdict; a rule is named before a list, and of each the longest
 * prefix, as if all of them were in force.
 *
 * This runs after the verdict (after.h), and only if there are shadow entries. They have their own tables and index,
 * and the packet is read again.
 */
#ifndef XG_STAGES_SHADOW_H
#define XG_STAGES_SHADOW_H

#include "../parse/parse.h"
#include "../verdict.h"
#include "lists.h"
#include "socket.h"

#define XG_SHADOW_NONE 0xffff

/*
 * Whether a packet with that reason is looked up: a denied packet is counted by its entry, and the others have no
 * source.
 */
static __always_inline bool xg_shadow_asks(u32 reason)
{
	return reason != XG_REASON_deny && reason != XG_REASON_malformed && reason != XG_REASON_non_ip;
}

/* The slot of the rule, or XG_SHADOW_NONE. */
static __always_inline u32 xg_shadow_rule(enum xg_trie trie, const union xg_address *address)
{
	struct xg_rule *rule = xg_trie_find(trie, address);

	return rule ? rule->slot : XG_SHADOW_NONE;
}

static __always_inline void *xg_shadow_index(void)
{
	u32 zero = 0;

	return shadow_index.lookup(&zero);
}

/* The number of a list, or XG_UNLISTED. Addresses in host byte order. */
static __always_inline u32 xg_shadow_list4(u32 address)
{
	u32 word = address >> 14, touched = xg_nets4_touched(shadow_nets4.lookup(&word), address);
	u64 end;

	return touched ? xg_look_up4(xg_shadow_index(), address, touched, &end) : XG_UNLISTED;
}

static __always_inline u32 xg_shadow_list6(u64 high, u64 low, u32 wide)
{
	struct xg_net6 net = xg_net6_of(high);
	u32 place = net.net >> 16;
	u64 end;

	if (!wide && !xg_net6_touched(shadow_nets6.lookup(&place), &net))
		return XG_UNLISTED;
	return xg_look_up6(xg_shadow_index(), high, low, &end);
}

/* The place of the hits of the entry that would be named, or XG_SHADOW_NONE. */
static __always_inline u32 xg_shadow_place(const struct xg_packet *packet, const struct xg_settings *settings)
{
	u32 list = XG_UNLISTED, slot = XG_SHADOW_NONE;

	if (packet->ip_version == 4) {
		if (settings->shadow_rules4)
			slot = xg_shadow_rule(XG_TRIE_SHADOW4, &packet->source);
		if (slot == XG_SHADOW_NONE && settings->shadow_lists4)
			list = xg_shadow_list4(bpf_ntohl(packet->source.ipv4));
	} else {
		if (settings->shadow_rules6)
			slot = xg_shadow_rule(XG_TRIE_SHADOW6, &packet->source);
		if (slot == XG_SHADOW_NONE && settings->shadow_lists6)
			list = xg_shadow_list6(xg_half(&packet->source, 0), xg_half(&packet->source, 1),
					       settings->shadow_lists6_wide);
	}
	return list == XG_UNLISTED ? slot : XG_SHADOW_RULES + list;
}

static __always_inline bool xg_shadow_parse_ip(struct xg_cursor *cursor, u8 ip_version, struct xg_handover *found)
{
	struct xg_packet packet = { .ip_version = ip_version };

	if (xg_parse_ip(cursor, &packet) != XG_NEXT)
		return false;
	found->ip_version = ip_version;
	found->segment = xg_is_tcp_segment(&packet);
	found->network_at = packet.network_at;
	found->transport_at = packet.transport_at;
	return true;
}

/* Where the headers are. */
static __always_inline bool xg_shadow_parse(struct xdp_md *ctx, u32 length, u64 zero, struct xg_handover *found)
{
	struct xg_cursor cursor;
	__be16 type;

	if (xg_parse_frame(ctx, &cursor, length, zero, &type) != XG_NEXT)
		return false;
	xg_forget_tags(ctx, &cursor);
	if (type == bpf_htons(ETH_P_IP))
		return xg_shadow_parse_ip(&cursor, 4, found);
	return type == bpf_htons(ETH_P_IPV6) && xg_shadow_parse_ip(&cursor, 6, found);
}

/* The addresses. False when the header is not in the first buffer. */
static __always_inline bool xg_shadow_addresses(struct xdp_md *ctx, const struct xg_handover *found,
						struct xg_packet *packet)
{
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ipv4 = (void *)(long)ctx->data + (xg_within(found->network_at, XG_NETWORK_BOUND));
	struct ipv6hdr *ipv6 = (void *)ipv4;

	packet->ip_version = found->ip_version;
	if (packet->ip_version == 4) {
		if ((void *)(ipv4 + 1) > end)
			return false;
		packet->source.ipv4 = ipv4->saddr;
		packet->destination.ipv4 = ipv4->daddr;
		return true;
	}
	if ((void *)(ipv6 + 1) > end)
		return false;
	__builtin_memcpy(&packet->source, &ipv6->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ipv6->daddr, sizeof(packet->destination));
	return true;
}

/* Whether it belongs to a TCP socket of this host past listening; request and timewait sockets do not count. */
static __always_inline bool xg_shadow_established(struct xdp_md *ctx, const struct xg_handover *found,
						  struct xg_packet *packet)
{
	struct bpf_sock *sock;
	struct tcphdr *tcp;
	bool past;

	if (!found->segment)
		return false;
	packet->transport_at = found->transport_at;
	tcp = xg_transport(ctx, packet);
	if (!tcp)
		return false;
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	sock = xg_socket(ctx, packet, false);
	if (!sock)
		return false;
	past = sock->state != BPF_TCP_LISTEN && sock->state != BPF_TCP_NEW_SYN_RECV && sock->state != BPF_TCP_TIME_WAIT;
	bpf_sk_release(sock);
	return past;
}

static __always_inline void xg_shadow_hit(u32 place, u32 its_class, const struct xg_packet *packet)
{
	u32 cpu = xg_hits_row(), index = cpu * XG_SHADOW_PLACES + place;
	struct xg_shadow_hits *row;

	xg_probe_shadow(place, its_class);
	row = shadow_hits.lookup(&index);
	if (row && its_class < XG_SHADOW_CLASSES)
		xg_hit(&row->of[its_class], cpu == XG_MAX_CPUS, packet);
}

/* Counts a packet on the shadow entry that would hit it. */
static __always_inline void xg_shadow(struct xdp_md *ctx, struct xg_counters *counters,
				      const struct xg_settings *settings, const struct xg_after *after)
{
	u32 zero = 0, place, its_class = XG_SHADOW_OTHER;
	struct xg_work *work = works.lookup(&zero);
	struct xg_handover *found = &counters->handover;
	struct xg_packet *packet;

	if (!work)
		return;
	packet = &work->packet;
	if (!xg_shadow_parse(ctx, xg_frame_length(ctx), settings->zero, found) ||
	    !xg_shadow_addresses(ctx, found, packet))
		return;
	packet->length = after->length;
	/* The frame is the guard's answer: the original sender is its destination. */
	if (after->verdict == XDP_TX)
		packet->source = packet->destination;
	place = xg_shadow_place(packet, settings);
	if (place == XG_SHADOW_NONE)
		return;
	if (after->reason == XG_REASON_allow)
		its_class = XG_SHADOW_ALLOWED;
	else if (after->verdict != XDP_TX && xg_shadow_established(ctx, found, packet))
		its_class = XG_SHADOW_ESTABLISHED;
	xg_shadow_hit(place, its_class, packet);
}

#endif
