/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the stages that look up rules and lists: is an entry still in force, and count a hit on it. */
#ifndef XG_STAGES_RULE_H
#define XG_STAGES_RULE_H

#include "../clock.h"
#include "../maps.h"
#include "../packet.h"
#include "../probe/probe.h"

/* Whether the entry has not expired. The clock is read only for an entry that can expire. */
static __always_inline bool xg_rule_in_time(const struct xg_rule *rule)
{
	return !rule->expires || rule->expires > xg_now_boot();
}

/* Whether it is in force; of shadow rules, which the probe leaves all in, xg_rule_in_time() says so. */
static __always_inline bool xg_rule_live(const struct xg_rule *rule)
{
	return !xg_probe_without(XG_PROBE_RULE, rule->slot) && xg_rule_in_time(rule);
}

static __always_inline u32 xg_hits_row(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return cpu > XG_MAX_CPUS ? XG_MAX_CPUS : cpu;
}

static __always_inline void xg_hit(struct xg_hits *row, bool shared, const struct xg_packet *packet)
{
	if (!row || XG_PROBE)
		return;
	if (!shared) {
		row->packets++;
		row->bytes += packet->length;
	} else {
		__sync_fetch_and_add(&row->packets, 1);
		__sync_fetch_and_add(&row->bytes, packet->length);
	}
}

static __always_inline void xg_rule_hit(u32 slot, const struct xg_packet *packet)
{
	u32 cpu = xg_hits_row(), index = cpu * XG_MAX_RULES + slot;

	xg_probe_hit(XG_PROBE_RULE, slot);
	xg_hit(hits.lookup(&index), cpu == XG_MAX_CPUS, packet);
}

static __always_inline void xg_list_hit(u32 list, const struct xg_packet *packet)
{
	u32 cpu = xg_hits_row(), index = cpu * XG_LISTS + list;

	xg_probe_hit(XG_PROBE_LIST, list);
	xg_hit(list_hits.lookup(&index), cpu == XG_MAX_CPUS, packet);
}

#endif
