/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which destinations are this host's own. SYNs for anybody else are not answered, nor are those that claim to come from
 * the host itself or from a broadcast address, which the kernel would not answer either (ip_route_input_slow(),
 * fib_validate_source()).
 *
 * With forwarding off, the kernel's own route lookup (bpf_fib_lookup()) does not tell, so the controller keeps the
 * local addresses in a table. A flood has one destination, or a few: the table's result for the last one is cached.
 */
#ifndef XG_STAGES_LOCAL_H
#define XG_STAGES_LOCAL_H

#include "../maps.h"
#include "socket.h"

static __always_inline u32 xg_local_kind(u32 ip_version, const union xg_address *address)
{
	struct xg_prefix4 key4 = { .length = 32, .address = address->ipv4 };
	struct xg_prefix6 key6 = { .length = 128 };
	u32 *kind;

	if (ip_version == 4) {
		kind = locals4.lookup(&key4);
	} else {
		__builtin_memcpy(key6.address, address->ipv6, sizeof(key6.address));
		kind = locals6.lookup(&key6);
	}
	return kind ? *kind : 0;
}

static __always_inline bool xg_same_address(const union xg_address *one, const union xg_address *other, u32 ip_version)
{
	if (ip_version == 4)
		return one->ipv4 == other->ipv4;
	return one->halves[0] == other->halves[0] && one->halves[1] == other->halves[1];
}

/* What a packet's destination is: enum xg_local, or 0. Without the tables, whether it would not be forwarded. */
static __always_inline u32 xg_destination_kind(struct xdp_md *ctx, struct xg_work *work, const struct xg_guard *guard)
{
	const struct xg_packet *packet = &work->packet;
	u32 generation = guard->locals, kind;

	if (!generation)
		return xg_forwarded(ctx, packet) ? 0 : XG_LOCAL_UNICAST;
	if (work->local_generation == generation && work->local_version == packet->ip_version &&
	    xg_same_address(&work->local, &packet->destination, packet->ip_version))
		return XG_LOCAL_UNICAST;
	kind = xg_local_kind(packet->ip_version, &packet->destination);
	if (kind == XG_LOCAL_UNICAST) {
		work->local = packet->destination;
		work->local_version = packet->ip_version;
		work->local_generation = generation;
	}
	return kind;
}

/* Whether the kernel would answer that source at all. */
static __always_inline bool xg_answerable_source(const struct xg_packet *packet, const struct xg_guard *guard)
{
	/* "This network" (RFC 1122, 3.2.1.3) and the unspecified address (RFC 4291, 2.5.2). */
	if (packet->ip_version == 4 ? !(packet->source.ipv4 & bpf_htonl(0xff000000))
				    : !packet->source.halves[0] && !packet->source.halves[1])
		return false;
	return !guard->locals || !xg_local_kind(packet->ip_version, &packet->source);
}

#endif
