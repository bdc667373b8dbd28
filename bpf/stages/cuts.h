/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the default cuts, or would, by source and destination port, for people to look at. Counted exactly while there
 * is room; new entries are limited in each tick, so that a flood from forged sources costs no insertion per packet.
 */
#ifndef XG_STAGES_CUTS_H
#define XG_STAGES_CUTS_H

#include "../clock.h"
#include "../layouts/counts.h"
#include "../layouts/default.h"
#include "../packet.h"

#define XG_CUTS 16384
#define XG_CUTS_A_TICK 8 /* new entries of a CPU; a tick is 1 to 10 ms */

/*
 * Source, protocol and port -> packets. Program writes, the controller reads and clears. Full: the least recently used
 * entry is evicted.
 */
BPF_TABLE_PINNED("lru_hash", struct xg_cut_key, struct xg_cut, cuts, XG_CUTS, XG_PINS "/cuts");

static __always_inline void xg_cut_begins(struct xg_cut_key *key, const struct xg_packet *packet, u16 port)
{
	__builtin_memset(key, 0, sizeof(*key));
	if (packet->ip_version == 4)
		*(__be32 *)key->source = packet->source.ipv4;
	else
		__builtin_memcpy(key->source, &packet->source, sizeof(key->source));
	key->port = port;
	key->protocol = packet->protocol;
	key->ip_version = packet->ip_version;
}

/* Whether one more entry may be made in this tick. */
static __always_inline bool xg_may_add_cut(struct xg_counters *counters)
{
	u64 tick = xg_now_tick();

	if (counters->cuts_tick != tick) {
		counters->cuts_tick = tick;
		counters->cuts_left = XG_CUTS_A_TICK;
	}
	if (!counters->cuts_left)
		return false;
	counters->cuts_left--;
	return true;
}

static __always_inline void xg_count_cut(struct xg_cut_key *key, struct xg_counters *counters, u32 length)
{
	struct xg_cut first = { .packets = 1, .bytes = length };
	struct xg_cut *its;

	if (XG_PROBE)
		return;
	its = cuts.lookup(key);
	if (its) {
		__sync_fetch_and_add(&its->packets, 1);
		__sync_fetch_and_add(&its->bytes, length);
		its->last = xg_now_boot();
	} else if (xg_may_add_cut(counters)) {
		first.last = xg_now_boot();
		cuts.update(key, &first);
	}
}

#endif
