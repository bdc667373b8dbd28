/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The default: a packet that no stage before has decided about is cut, if the operator asked for that, unless it
 * belongs to something that this host opened. In shadow mode it is only counted.
 *
 * Left alone is what is not for this host: frames for a guest's MAC address, packets that would be forwarded, and what
 * devices of other namespaces may take. So are later fragments: without the first one, which is judged, they reach
 * nobody.
 */
#ifndef XG_STAGES_DEFAULT_DENY_H
#define XG_STAGES_DEFAULT_DENY_H

#include "above.h"
#include "belongs.h"
#include "cuts.h"
#include "local.h"
#include "messages.h"
#include "shadow.h"

#define XG_GROUP_BIT 1 /* of the first byte of a MAC address: a group's */

static __always_inline bool xg_to_group(const struct xg_packet *packet)
{
	if (packet->ip_version == 6)
		return *(const u8 *)&packet->destination == 0xff;
	return (packet->destination.ipv4 & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
	       packet->destination.ipv4 == 0xffffffff;
}

/* Whether the frame is for a device that is not this host's. One to a group is for guests too, if there may be any. */
static __always_inline bool xg_foreign_frame(struct xdp_md *ctx, const struct xg_guard *guard, bool to_group)
{
	u8 *mac = (void *)(long)ctx->data;

	if (xg_own_frame(ctx, guard))
		return false;
	if ((void *)(mac + 1) > (void *)(long)ctx->data_end)
		return false;
	return *mac & XG_GROUP_BIT ? guard->more_macs && to_group : true;
}

/*
 * Whether the packet is somebody else's: for a container or a guest, or to be forwarded. An address that is in no table
 * may have been added just now, so it counts as local where nothing is forwarded.
 */
static __always_inline bool xg_left_alone(struct xdp_md *ctx, const struct xg_packet *packet,
					  const struct xg_guard *guard)
{
	u32 kind = guard->locals ? xg_local_kind(packet->ip_version, &packet->destination) : 0;
	bool to_group = kind == XG_LOCAL_BROADCAST || xg_to_group(packet);

	if (xg_foreign_frame(ctx, guard, to_group))
		return true;
	if (kind == XG_LOCAL_UNICAST)
		return false;
	if (xg_is_above(XG_ABOVE_SHARED, 0))
		return true;
	if (to_group)
		return false;
	return (guard->locals && guard->pass_unknown) || xg_forwarded(ctx, packet);
}

/* Reads what identifies the packet behind its addresses, and says by what it is judged. */
static __always_inline u32 xg_read_message(struct xdp_md *ctx, struct xg_packet *packet, u16 *port)
{
	u64 at = packet->transport_at;
	u8 *icmp;

	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP) {
		if (!xg_read_ends(ctx, at, packet->protocol, 0, &packet->source_port, &packet->destination_port))
			return XG_MESSAGE_CUT;
		*port = bpf_ntohs(packet->destination_port);
		return packet->protocol == IPPROTO_UDP && xg_is_dhcp_answer(packet) ? XG_MESSAGE_PASS
										    : XG_MESSAGE_REPLY;
	}
	if (packet->protocol == IPPROTO_IGMP && packet->ip_version == 4)
		return xg_to_group(packet) ? XG_MESSAGE_PASS : XG_MESSAGE_CUT;
	if (packet->protocol != (packet->ip_version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return XG_MESSAGE_REPLY;
	icmp = xg_bytes_at(ctx, at, XG_ICMP_HEADER);
	if (!icmp)
		return XG_MESSAGE_CUT;
	*port = *icmp;
	packet->destination_port = *(__be16 *)(icmp + 4);
	return packet->ip_version == 4 ? xg_icmp_kind(*icmp) : xg_icmpv6_kind(*icmp);
}

/* The packet again, as the handover tells; the fields that only some protocols have are zero. */
static __always_inline bool xg_default_packet(struct xdp_md *ctx, const struct xg_handover *handover,
					      struct xg_packet *packet)
{
	struct tcphdr *tcp;

	__builtin_memset(packet, 0, sizeof(*packet));
	packet->network_at = handover->network_at;
	packet->transport_at = handover->transport_at;
	packet->protocol = handover->protocol;
	if (!xg_shadow_addresses(ctx, handover, packet))
		return false;
	if (packet->protocol != IPPROTO_TCP)
		return true;
	tcp = xg_transport(ctx, packet);
	if (!tcp)
		return false;
	packet->tcp_flags = ((u8 *)tcp)[13];
	return true;
}

/* Whether the packet belongs to nothing, so that the default cuts it. */
static __always_inline bool xg_default_cuts(struct xdp_md *ctx, struct xg_counters *counters,
					    const struct xg_settings *settings, u32 length)
{
	const struct xg_handover *handover = &counters->handover;
	u32 zero = 0, kind;
	struct xg_work *work = works.lookup(&zero);
	struct xg_guard *guard = guards.lookup(&zero);
	struct xg_packet *packet;
	u16 port = 0;

	if (!work || !guard || handover->needed || handover->later_fragment)
		return false;
	packet = &work->packet;
	if (!xg_default_packet(ctx, handover, packet))
		return true;
	if (xg_left_alone(ctx, packet, guard))
		return false;
	kind = xg_read_message(ctx, packet, &port);
	if (kind == XG_MESSAGE_PASS)
		return false;
	xg_cut_begins(&work->cut, packet, port);
	if (kind == XG_MESSAGE_ERROR && !xg_read_quoted(ctx, packet))
		kind = XG_MESSAGE_CUT;
	if (kind != XG_MESSAGE_CUT && xg_belongs(ctx, packet, kind == XG_MESSAGE_ERROR, settings, xg_now_coarse()))
		return false;
	xg_count_cut(&work->cut, counters, length);
	return true;
}

/* What the packet is counted as, unless the guard must see it. */
static __always_inline u32 xg_default_reason(const struct xg_handover *handover)
{
	if (handover->cut)
		return XG_REASON_default_deny;
	return handover->later_fragment ? XG_REASON_fragment : XG_REASON_pass;
}

#endif
