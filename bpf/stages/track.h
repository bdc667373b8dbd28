/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracking: TCP flags by source and initial SYNs by tuple, in LRU tables. A new entry costs more than all the rest and
 * may push out one that matters. So each CPU makes a bounded number a second, and what the bound kept out is counted;
 * and a packet that a deny entry drops, which that entry counts already, is not tracked.
 *
 * Under a flood even the look-up, which misses the cache, costs as much as all the rest. So once a CPU has made its
 * number, it looks no initial SYN up for the rest of the second, and counts it as kept out.
 */
#ifndef XG_STAGES_TRACK_H
#define XG_STAGES_TRACK_H

#include "../clock.h"
#include "../maps.h"
#include "known.h"
#include "tuple.h"

#define XG_SECOND 1000000000ull
#define XG_PORTS_REMEMBERED (60 * XG_SECOND)
#define XG_SUSPECT_PORTS 6 /* of the 64 that are told apart */

/* Called only when an entry is to be made: the clock is not read otherwise. */
static __always_inline void xg_renew_budget(struct xg_budget *budget)
{
	u64 now = xg_now_coarse();

	if (now - budget->since < XG_SECOND)
		return;
	budget->since = now;
	budget->sources = 0;
	budget->tuples = 0;
}

/* Whether this second's number of new entries is made: the clock is read only when it seems so. */
static __always_inline bool xg_sources_used_up(struct xg_budget *budget)
{
	if (budget->sources < XG_NEW_SOURCES_PER_SECOND)
		return false;
	xg_renew_budget(budget);
	return budget->sources >= XG_NEW_SOURCES_PER_SECOND;
}

static __always_inline bool xg_tuples_used_up(struct xg_budget *budget)
{
	if (budget->tuples < XG_NEW_TUPLES_PER_SECOND)
		return false;
	xg_renew_budget(budget);
	return budget->tuples >= XG_NEW_TUPLES_PER_SECOND;
}

static __always_inline bool xg_may_add_source(struct xg_counters *counters)
{
	xg_renew_budget(&counters->budget);
	if (counters->budget.sources >= XG_NEW_SOURCES_PER_SECOND) {
		counters->sources_skipped++;
		return false;
	}
	counters->budget.sources++;
	return true;
}

/* There is room in this second, or the tuple would not have been looked up. */
static __always_inline void xg_take_tuple(struct xg_counters *counters)
{
	xg_renew_budget(&counters->budget);
	counters->budget.tuples++;
}

static __always_inline void xg_add_flags(struct xg_source_counts *counts, u8 flags)
{
	int i;

	counts->packets++;
	/* The greater part of all segments. */
	if (flags == XG_ACK) {
		counts->flags[4]++;
		return;
	}
#pragma unroll
	for (i = 0; i < 8; i++)
		counts->flags[i] += (flags >> i) & 1;
}

/* Notes the port of an initial SYN. */
static __always_inline void xg_note_port(struct xg_source_counts *counts, const struct xg_packet *packet)
{
	u64 bit = 1ull << (bpf_ntohs(packet->destination_port) & 63), now;

	if (!(counts->ports & bit)) {
		now = xg_now_coarse();
		if (now - counts->ports_since > XG_PORTS_REMEMBERED) {
			counts->ports_since = now;
			counts->ports = 0;
			counts->ports_number = 0;
		}
		counts->ports |= bit;
		counts->ports_number++;
	}
}

/* A segment of a source that has a row. Whether it has tried so many ports of late that it is asked for a proof. */
static __always_inline bool xg_count_source(struct xg_source_counts *counts, const struct xg_packet *packet)
{
	xg_add_flags(counts, packet->tcp_flags);
	if (xg_initial_syn(packet))
		xg_note_port(counts, packet);
	/* The clock is read for those only that have tried so many ports. */
	return counts->ports_number >= XG_SUSPECT_PORTS && xg_now_coarse() - counts->ports_since < XG_PORTS_REMEMBERED;
}

static __always_inline bool xg_track_source4(const struct xg_packet *packet, struct xg_counters *counters)
{
	struct xg_source4 key = { .address = packet->source.ipv4, .cpu = bpf_get_smp_processor_id() };
	struct xg_source_counts *counts = xg_row4(packet), none = {};

	if (!counts && xg_may_add_source(counters)) {
		sources4.update(&key, &none);
		counts = sources4.lookup(&key);
	}
	return counts && xg_count_source(counts, packet);
}

static __always_inline bool xg_track_source6(const struct xg_packet *packet, struct xg_counters *counters)
{
	struct xg_source6 key = { .cpu = bpf_get_smp_processor_id() };
	struct xg_source_counts *counts = xg_row6(packet), none = {};

	__builtin_memcpy(key.address, packet->source.ipv6, sizeof(key.address));
	if (!counts && xg_may_add_source(counters)) {
		sources6.update(&key, &none);
		counts = sources6.lookup(&key);
	}
	return counts && xg_count_source(counts, packet);
}

/* Written out of line of the lookup: nearly every SYN of a known tuple passes without it. */
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
	/* Another CPU made it meanwhile. */
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
	/* Another CPU made it meanwhile. */
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

static __always_inline bool xg_track_source(const struct xg_packet *packet, struct xg_counters *counters)
{
	return packet->ip_version == 4 ? xg_track_source4(packet, counters) : xg_track_source6(packet, counters);
}

static __always_inline void xg_track_tuple(const struct xg_packet *packet, struct xg_counters *counters,
					   const u64 *secrets)
{
	if (packet->ip_version == 4)
		xg_track_tuple4(packet, counters, secrets);
	else
		xg_track_tuple6(packet, counters, secrets);
}

/* Whether the source is suspect: see scan.h. `known` is its row, when it has been looked up already. */
static __always_inline bool xg_track(const struct xg_packet *packet, struct xg_counters *counters,
				     const struct xg_settings *settings, struct xg_source_counts *known)
{
	bool syn = xg_initial_syn(packet), suspect = false;

	if (!xg_is_tcp_segment(packet))
		return false;
	if (XG_PROBE)
		return xg_probe_suspect(packet, XG_PORTS_REMEMBERED, XG_SUSPECT_PORTS);
	if (known)
		return xg_count_source(known, packet);
	if (syn && xg_sources_used_up(&counters->budget))
		counters->sources_skipped++;
	else
		suspect = xg_track_source(packet, counters);
	if (!syn)
		return suspect;
	if (xg_tuples_used_up(&counters->budget))
		counters->tuples_skipped++;
	else
		xg_track_tuple(packet, counters, settings->secrets);
	return suspect;
}

#endif
