/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracking: TCP flags by source and initial SYNs by tuple, in LRU tables.
 *
 * A new entry costs more than all the rest and may evict one that matters. So each CPU creates a bounded number per
 * second, and what the bound kept out is counted; a packet that a deny entry drops is counted by that entry and not
 * tracked.
 *
 * Under a flood even the lookup, which misses the cache, costs as much as all the rest. So once a CPU has created its
 * number of entries, it looks up no initial SYNs for the rest of the second, and counts them as kept out.
 */
#ifndef XG_STAGES_TRACK_H
#define XG_STAGES_TRACK_H

#include "../clock.h"
#include "../maps.h"
#include "budget.h"
#include "known.h"
#include "tuples.h"

#define XG_PORTS_REMEMBERED (60 * XG_SECOND)
#define XG_SUSPECT_PORTS 6 /* of the 64 that are told apart */

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

/*
 * A segment of a source that has a row. Returns whether the source has recently tried so many ports that it is
 * challenged.
 */
static __always_inline bool xg_count_source(struct xg_source_counts *counts, const struct xg_packet *packet)
{
	xg_add_flags(counts, packet->tcp_flags);
	if (xg_initial_syn(packet))
		xg_note_port(counts, packet);
	/* The clock is read only for sources that have tried that many ports. */
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

static __always_inline bool xg_track_source(const struct xg_packet *packet, struct xg_counters *counters)
{
	return packet->ip_version == 4 ? xg_track_source4(packet, counters) : xg_track_source6(packet, counters);
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
