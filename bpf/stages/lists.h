/* SPDX-License-Identifier: GPL-2.0 */
/* The allow list, the block rules and the named lists: source address against addresses and prefixes. */
#ifndef XG_STAGES_LISTS_H
#define XG_STAGES_LISTS_H

#include "../verdict.h"
#include "index.h"
#include "known.h"
#include "rule.h"
#include "trie.h"

/* The pre-filter: for nearly every packet the deny lists cost only this one read. */
static __always_inline bool xg_net4_touched(__be32 address)
{
	u32 net = bpf_ntohl(address) >> 8, word = net >> 6;
	u64 *bits = deny4_nets.lookup(&word);

	return bits && (*bits >> (net & 63)) & 1;
}

static __always_inline struct xg_rule *xg_denied4(const struct xg_packet *packet, const struct xg_settings *settings)
{
	struct xg_address4 key = { .address = packet->source.ipv4 };
	struct xg_rule *rule;

	if (!settings->deny4 || !xg_net4_touched(key.address))
		return NULL;
	rule = deny4.lookup(&key);
	if (rule && xg_rule_live(rule))
		return rule;
	return settings->deny4_prefix ? xg_trie_find(XG_TRIE_DENY4, &packet->source) : NULL;
}

static __always_inline bool xg_net6_ruled(u64 high)
{
	struct xg_net6 net = xg_net6_of(high);
	u32 place = net.net >> 20;

	return xg_net6_touched(deny6_nets.lookup(&place), &net);
}

static __always_inline struct xg_rule *xg_denied6(const struct xg_packet *packet, const struct xg_settings *settings)
{
	struct xg_address6 key;
	struct xg_rule *rule;

	if (!settings->deny6)
		return NULL;
	if (!settings->deny6_wide && !xg_net6_ruled(xg_half(&packet->source, 0)))
		return NULL;
	__builtin_memcpy(key.word, packet->source.ipv6, sizeof(key.word));
	rule = deny6.lookup(&key);
	if (rule && xg_rule_live(rule))
		return rule;
	return settings->deny6_prefix ? xg_trie_find(XG_TRIE_DENY6, &packet->source) : NULL;
}

static __always_inline struct xg_rule *xg_allowed(const struct xg_packet *packet, const struct xg_settings *settings)
{
	if (packet->ip_version == 4)
		return settings->allow4 ? xg_trie_find(XG_TRIE_ALLOW4, &packet->source) : NULL;
	return settings->allow6 ? xg_trie_find(XG_TRIE_ALLOW6, &packet->source) : NULL;
}

static __always_inline struct xg_rule *xg_denied(const struct xg_packet *packet, const struct xg_settings *settings)
{
	return packet->ip_version == 4 ? xg_denied4(packet, settings) : xg_denied6(packet, settings);
}

/* The list that holds the source, or XG_UNLISTED. `end`: when its entry ends, CLOCK_BOOTTIME, ns; 0: never. */
static __always_inline u32 xg_listed4(struct xg_packet *packet, const struct xg_settings *settings, u64 *end)
{
	u32 address = bpf_ntohl(packet->source.ipv4), touched;

	if (!settings->lists4)
		return XG_UNLISTED;
	touched = xg_list_touches4(address);
	if (!touched)
		return XG_UNLISTED;
	xg_forget(packet, settings->zero);
	return xg_look_up4(xg_index_in_force(), address, touched, end);
}

static __always_inline u32 xg_listed6(struct xg_packet *packet, const struct xg_settings *settings, u64 *end)
{
	u64 high = xg_half(&packet->source, 0);

	if (!settings->lists6 || (!settings->lists6_wide && !xg_list_touches6(high)))
		return XG_UNLISTED;
	xg_forget(packet, settings->zero);
	return xg_look_up6(xg_index_in_force(), high, xg_half(&packet->source, 1), end);
}

static __always_inline u32 xg_deny_lists(struct xg_packet *packet, struct xg_counters *counters,
					 const struct xg_settings *settings, struct xg_denial *denial, u64 generation)
{
	struct xg_rule *rule = xg_denied(packet, settings);
	u64 end = 0;
	u32 list;

	if (rule) {
		xg_rule_hit(rule->slot, packet);
		xg_denied_by(counters, XG_PROBE_RULE, rule->slot);
		xg_remember_denial(packet, denial, generation, rule->expires, rule->slot, 0);
		return XG_REASON_deny;
	}
	list = packet->ip_version == 4 ? xg_listed4(packet, settings, &end) : xg_listed6(packet, settings, &end);
	if (list == XG_UNLISTED || xg_probe_without(XG_PROBE_LIST, list))
		return XG_NEXT;
	xg_list_hit(list, packet);
	xg_denied_by(counters, XG_PROBE_LIST, list);
	xg_remember_denial(packet, denial, generation, end, list, 1);
	return XG_REASON_deny;
}

/* The allow list overrides all others, a rule is named before a list, and all override everything below them. */
static __always_inline u32 xg_lists(struct xg_packet *packet, struct xg_counters *counters,
				    const struct xg_settings *settings, struct xg_source_counts **known)
{
	struct xg_rule *rule = xg_allowed(packet, settings);
	struct xg_denial *denial;
	/* Read before any lookup: a result of an older state must not be cached as one of a newer state. */
	u64 generation = *(const volatile u64 *)&settings->generation;
	u32 reason;

	if (rule) {
		xg_rule_hit(rule->slot, packet);
		packet->needed = !!(rule->prefix_length & XG_RULE_NEEDED);
		return packet->needed ? XG_NEXT : XG_REASON_allow;
	}
	if (!settings->deny)
		return XG_NEXT;
	denial = xg_denial_of(packet, counters);
	if (xg_denied_again(packet, counters, denial, generation))
		return XG_REASON_deny;
	/* Rules alone are looked up faster than the row is found. */
	if (packet->ip_version == 4 ? settings->lists4 : settings->lists6)
		*known = xg_known(packet);
	if (*known && (*known)->clean == generation)
		return XG_NEXT;
	reason = xg_deny_lists(packet, counters, settings, denial, generation);
	if (*known && reason == XG_NEXT)
		(*known)->clean = generation;
	return reason;
}

#endif
