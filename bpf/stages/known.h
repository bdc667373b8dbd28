/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Results of the deny entries, cached per source until the entries change.
 *
 * No match: this is stored in the source's tracking row. The source's segments need no further lookup, and so cost the
 * same with a million entries as with none; the row is looked up for the counts anyway. Initial SYNs, which floods
 * consist of, and anything else without a row are looked up each time.
 *
 * A match: each CPU keeps the last few sources that it dropped, so that a flooding source does not cost a lookup per
 * packet. The probe looks everything up itself.
 */
#ifndef XG_STAGES_KNOWN_H
#define XG_STAGES_KNOWN_H

#include "count.h"
#include "rule.h"

static __always_inline struct xg_source_counts *xg_row4(const struct xg_packet *packet)
{
	struct xg_source4 key = { .address = packet->source.ipv4, .cpu = bpf_get_smp_processor_id() };

	return sources4.lookup(&key);
}

static __always_inline struct xg_source_counts *xg_row6(const struct xg_packet *packet)
{
	struct xg_source6 key = { .cpu = bpf_get_smp_processor_id() };

	__builtin_memcpy(key.address, packet->source.ipv6, sizeof(key.address));
	return sources6.lookup(&key);
}

/* The source's row on this CPU if it is worth looking up here, else NULL. */
static __always_inline struct xg_source_counts *xg_known(const struct xg_packet *packet)
{
	if (XG_PROBE || !xg_is_tcp_segment(packet) || xg_initial_syn(packet))
		return NULL;
	return packet->ip_version == 4 ? xg_row4(packet) : xg_row6(packet);
}

/* An address as two numbers. */
static __always_inline u64 xg_name_high(const struct xg_packet *packet)
{
	return packet->ip_version == 4 ? 0 : packet->source.halves[0];
}

static __always_inline u64 xg_name_low(const struct xg_packet *packet)
{
	return packet->ip_version == 4 ? packet->source.ipv4 : packet->source.halves[1];
}

/* The place of the source among the denials. */
static __always_inline struct xg_denial *xg_denial_of(const struct xg_packet *packet, struct xg_counters *counters)
{
	u64 mixed = xg_name_low(packet) + packet->source.ipv4;

	mixed ^= mixed >> 32;
	mixed ^= mixed >> 16;
	mixed ^= mixed >> 8;
	return &counters->denials[xg_within(mixed, XG_DENIALS)];
}

/* For the sample of this packet, if one is taken. */
static __always_inline void xg_denied_by(struct xg_counters *counters, u32 entry, u32 number)
{
	counters->denied_entry = entry;
	counters->denied_number = number;
}

/* Whether the source was denied recently and still is; if so, the hit is counted. */
static __always_inline bool xg_denied_again(const struct xg_packet *packet, struct xg_counters *counters,
					    struct xg_denial *denial, u64 generation)
{
	if (XG_PROBE || denial->low != xg_name_low(packet) || denial->high != xg_name_high(packet) ||
	    denial->version != packet->ip_version || denial->generation != generation ||
	    (denial->expires && denial->expires <= xg_now_boot()))
		return false;
	if (denial->listed)
		xg_list_hit(denial->slot, packet);
	else
		xg_rule_hit(denial->slot, packet);
	xg_denied_by(counters, denial->listed ? XG_PROBE_LIST : XG_PROBE_RULE, denial->slot);
	return true;
}

static __always_inline void xg_remember_denial(const struct xg_packet *packet, struct xg_denial *denial, u64 generation,
					       u64 expires, u32 slot, u32 listed)
{
	denial->high = xg_name_high(packet);
	denial->low = xg_name_low(packet);
	denial->generation = generation;
	denial->expires = expires;
	denial->slot = slot;
	denial->listed = listed;
	denial->version = packet->ip_version;
}

#endif
