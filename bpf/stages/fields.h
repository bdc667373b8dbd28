/* SPDX-License-Identifier: GPL-2.0 */
/* The fields of a packet as keys of the filters' tables. */
#ifndef XG_STAGES_FIELDS_H
#define XG_STAGES_FIELDS_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "../packet.h"
#include "../parse/parse.h"
#include "filterset.h"

#define XG_LATER_FRAGMENT 2
#define XG_VLAN_ID 0x0fff

/* What the program that runs later shall know of the packet, once its headers are parsed. */
static __always_inline void xg_filter_note(const struct xg_cursor *cursor, const struct xg_packet *packet,
					   struct xg_filtering *found)
{
	found->length = packet->length;
	found->network_at = packet->network_at;
	found->transport_at = xg_place(cursor);
	found->end = found->transport_at + cursor->left;
	found->ip_version = packet->ip_version;
	found->protocol = packet->protocol;
	found->fragment = packet->later_fragment ? XG_LATER_FRAGMENT : packet->more_fragments;
}

static __always_inline void xg_filter_fields4(const struct iphdr *ip, struct xg_filtering *found)
{
	/* A datagram that the kernel assembled itself can be longer than the field can say: BIG TCP. */
	u32 length = bpf_ntohs(ip->tot_len);

	*(volatile __be32 *)&found->source[0] = ip->saddr;
	*(volatile __be32 *)&found->destination[0] = ip->daddr;
	found->key[XG_FIELD_SOURCE] = bpf_ntohl(ip->saddr) >> 16;
	found->key[XG_FIELD_DESTINATION] = bpf_ntohl(ip->daddr) >> 16;
	found->key[XG_FIELD_LENGTH] = length ? length : 0xffff;
	found->key[XG_FIELD_DSCP] = ip->tos >> 2;
	found->key[XG_FIELD_TTL] = ip->ttl;
	found->key[XG_FIELD_FRAG_OFF] = bpf_ntohs(ip->frag_off);
}

static __always_inline void xg_filter_fields6(const struct xg_filter_head *head, const struct ipv6hdr *ip,
					      struct xg_filtering *found)
{
	const u64 *source = (const void *)&ip->saddr, *destination = (const void *)&ip->daddr;
	u32 length = found->end - found->network_at;

	found->source[0] = source[0];
	found->source[1] = source[1];
	found->destination[0] = destination[0];
	found->destination[1] = destination[1];
	found->key[XG_FIELD_SOURCE] = xg_filter_key6(head, 0, bpf_ntohll(source[0]));
	found->key[XG_FIELD_DESTINATION] = xg_filter_key6(head, 1, bpf_ntohll(destination[0]));
	found->key[XG_FIELD_LENGTH] = length < 0xffff ? length : 0xffff;
	found->key[XG_FIELD_DSCP] = (bpf_ntohs(*(const u16 *)ip) >> 6) & 0x3f;
	found->key[XG_FIELD_TTL] = ip->hop_limit;
	found->key[XG_FIELD_FRAG_OFF] = XG_FILTER_LACKING;
}

/* Of a packet that is no later fragment: ports, flags, ICMP's type. */
static __always_inline void xg_filter_transport(struct xdp_md *ctx, struct xg_filtering *found)
{
	u8 *at = (void *)(long)ctx->data + xg_within(found->transport_at, XG_TRANSPORT_BOUND);
	void *end = (void *)(long)ctx->data_end;
	u32 protocol = found->protocol;

	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		if ((void *)(at + sizeof(struct udphdr)) > end)
			return;
		found->key[XG_FIELD_SOURCE_PORT] = bpf_ntohs(*(u16 *)at);
		found->key[XG_FIELD_DESTINATION_PORT] = bpf_ntohs(*(u16 *)(at + 2));
		found->inner_at = found->transport_at + sizeof(struct udphdr);
		if (protocol == IPPROTO_UDP || (void *)(at + sizeof(struct tcphdr)) > end)
			return;
		found->key[XG_FIELD_TCP_FLAGS] = at[13];
		found->inner_at = found->transport_at + (at[12] >> 4) * 4;
	} else if (protocol == (found->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if ((void *)(at + 2) > end)
			return;
		found->key[XG_FIELD_ICMP_TYPE] = at[0];
		found->key[XG_FIELD_ICMP_CODE] = at[1];
	}
}

/* Fills the keys. False when the headers are not in the first buffer. */
static __always_inline bool xg_filter_fields(struct xdp_md *ctx, const struct xg_filter_head *head,
					     struct xg_filtering *found)
{
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *network = frame + xg_within(found->network_at, XG_NETWORK_BOUND);
	const struct xg_vlan_tag *tag;

	found->key[XG_FIELD_VERSION] = found->ip_version;
	found->key[XG_FIELD_PROTOCOL] = found->protocol;
	found->key[XG_FIELD_FRAGMENT] = found->fragment;
	found->key[XG_FIELD_SOURCE_PORT] = XG_FILTER_LACKING;
	found->key[XG_FIELD_DESTINATION_PORT] = XG_FILTER_LACKING;
	found->key[XG_FIELD_TCP_FLAGS] = XG_FILTER_LACKING;
	found->key[XG_FIELD_ICMP_TYPE] = XG_FILTER_LACKING;
	found->key[XG_FIELD_ICMP_CODE] = XG_FILTER_LACKING;
	found->key[XG_FIELD_VLAN] = XG_FILTER_LACKING;
	found->inner_at = 0;
	if (network + sizeof(struct iphdr) > end)
		return false;
	if (found->network_at > sizeof(struct ethhdr)) {
		tag = frame + sizeof(struct ethhdr);
		xg_hide(tag); /* or the comparison is gone, as one with a larger bound came before */
		if ((void *)(tag + 1) > end)
			return false;
		found->key[XG_FIELD_VLAN] = bpf_ntohs(tag->control) & XG_VLAN_ID;
	}
	if (found->ip_version == 4) {
		xg_filter_fields4(network, found);
	} else {
		if (network + sizeof(struct ipv6hdr) > end)
			return false;
		xg_filter_fields6(head, network, found);
	}
	if (found->fragment != XG_LATER_FRAGMENT)
		xg_filter_transport(ctx, found);
	return true;
}

#endif
