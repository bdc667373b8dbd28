/* SPDX-License-Identifier: GPL-2.0 */
/* Initial SYNs by tuple: see track.h. */
#ifndef XG_STAGES_TUPLES_H
#define XG_STAGES_TUPLES_H

#include "../maps.h"
#include "../packet.h"
#include "budget.h"
#include "tuple.h"

/* Kept out of the lookup: nearly every SYN of a known tuple passes without it. */
static __always_inline void xg_add_tuple4(const struct xg_packet *packet, struct xg_counters *counters, u64 *key)
{
	struct xg_tuple4 *made;
	struct xg_tuple4 first = {
		.source = packet->source.ipv4,
		.destination = packet->destination.ipv4,
		.source_port = packet->source_port,
		.destination_port = packet->destination_port,
		.cpu = bpf_get_smp_processor_id(),
		.syns = 1,
	};

	xg_take_tuple(counters);
	if (!tuples4.insert(key, &first))
		return;
	/* Another CPU created it in the meantime. */
	made = tuples4.lookup(key);
	if (made)
		__sync_fetch_and_add(&made->syns_elsewhere, 1);
}

static __always_inline void xg_track_tuple4(const struct xg_packet *packet, struct xg_counters *counters,
					    const u64 *secrets)
{
	u64 key = xg_tuple_hash(packet, secrets);
	struct xg_tuple4 *tuple = tuples4.lookup(&key);

	if (!tuple)
		xg_add_tuple4(packet, counters, &key);
	else if (tuple->source != packet->source.ipv4 || tuple->destination != packet->destination.ipv4 ||
		 tuple->source_port != packet->source_port || tuple->destination_port != packet->destination_port)
		counters->tuples_skipped++;
	else if (tuple->cpu == bpf_get_smp_processor_id())
		tuple->syns++;
	else
		__sync_fetch_and_add(&tuple->syns_elsewhere, 1);
}

static __always_inline void xg_add_tuple6(const struct xg_packet *packet, struct xg_counters *counters, u64 *key)
{
	struct xg_tuple6 *made;
	struct xg_tuple6 first = {
		.source = { packet->source.halves[0], packet->source.halves[1] },
		.destination = { packet->destination.halves[0], packet->destination.halves[1] },
		.source_port = packet->source_port,
		.destination_port = packet->destination_port,
		.cpu = bpf_get_smp_processor_id(),
		.syns = 1,
	};

	xg_take_tuple(counters);
	if (!tuples6.insert(key, &first))
		return;
	/* Another CPU created it in the meantime. */
	made = tuples6.lookup(key);
	if (made)
		__sync_fetch_and_add(&made->syns_elsewhere, 1);
}

static __always_inline bool xg_is_tuple6(const struct xg_tuple6 *tuple, const struct xg_packet *packet)
{
	return tuple->source[0] == packet->source.halves[0] && tuple->source[1] == packet->source.halves[1] &&
	       tuple->destination[0] == packet->destination.halves[0] &&
	       tuple->destination[1] == packet->destination.halves[1] && tuple->source_port == packet->source_port &&
	       tuple->destination_port == packet->destination_port;
}

static __always_inline void xg_track_tuple6(const struct xg_packet *packet, struct xg_counters *counters,
					    const u64 *secrets)
{
	u64 key = xg_tuple_hash(packet, secrets);
	struct xg_tuple6 *tuple = tuples6.lookup(&key);

	if (!tuple)
		xg_add_tuple6(packet, counters, &key);
	else if (!xg_is_tuple6(tuple, packet))
		counters->tuples_skipped++;
	else if (tuple->cpu == bpf_get_smp_processor_id())
		tuple->syns++;
	else
		__sync_fetch_and_add(&tuple->syns_elsewhere, 1);
}

static __always_inline void xg_track_tuple(const struct xg_packet *packet, struct xg_counters *counters,
					   const u64 *secrets)
{
	if (packet->ip_version == 4)
		xg_track_tuple4(packet, counters, secrets);
	else
		xg_track_tuple6(packet, counters, secrets);
}

#endif
