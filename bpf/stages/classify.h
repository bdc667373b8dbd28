/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Filters: which is the first that matches and decides. Those that only count, that are in shadow, or whose limit is
 * kept are counted, and the search goes on.
 */
#ifndef XG_STAGES_CLASSIFY_H
#define XG_STAGES_CLASSIFY_H

#include "../programs.h"
#include "turns.h"

/* The entry of the source (`which` 0) or the destination (1). */
static __always_inline u32 xg_filter_address(void *set, const struct xg_filtering *packet, int which)
{
	const struct xg_filter_head *head = set;
	const volatile u64 *address = which ? packet->destination : packet->source;
	u32 six = packet->ip_version == 6;
	u32 entry = xg_filter_entry(set, XG_FIELD_SOURCE + which + (six ? XG_FILTER_FIELDS : 0),
				    packet->key[XG_FIELD_SOURCE + which]);

	if (!(entry & XG_FILTER_NODE))
		return entry;
	if (!six)
		return xg_filter_search4(set, head->bounds4[which], entry, bpf_ntohl((u32)address[0]));
	return xg_filter_search6(set, head->bounds6[which], head->entries6[which], entry, bpf_ntohll(address[0]),
				 bpf_ntohll(address[1]));
}

static __always_inline u64 xg_filter_row(const struct xg_filter_head *head, u32 entry)
{
	return head->rows + (entry & (XG_FILTER_NODE - 1)) * 8ull * XG_FILTER_WORDS;
}

static __always_inline void xg_filter_addresses(void *set, u32 version, struct xg_filtering *packet)
{
	const struct xg_filter_head *head = set;
	u32 entry, rows = 0;

	packet->words = (1u << XG_FILTER_WORDS) - 1;
	if (head->addresses[version] & 1) {
		entry = xg_filter_address(set, packet, 0);
		packet->row[0] = xg_filter_row(head, entry);
		packet->words = entry >> 16;
		rows = 1;
	}
	packet->rows = rows;
	if (head->addresses[version] & 2) {
		entry = xg_filter_address(set, packet, 1);
		rows = packet->rows;
		packet->row[xg_within(rows, XG_FILTER_FIELDS)] = xg_filter_row(head, entry);
		packet->words &= entry >> 16;
		packet->rows = rows + 1;
	}
}

/* The rows of all fields that are tested, and which of their words are zero in none of them. */
static __always_inline void xg_filter_classify(void *set, struct xg_filtering *packet)
{
	const struct xg_filter_head *head = set;
	u32 version = packet->ip_version == 6, fields = head->fields[version], rows, entry, i;
	u64 words;

	xg_filter_addresses(set, version, packet);
	words = packet->words;
	rows = packet->rows;
	if (!words)
		return;
	for (i = 0; i < XG_FILTER_FIELDS && i < fields; i++) {
		xg_hide(i); /* or clang counts down from a number that the verifier does not know */
		entry = xg_filter_entry(
			set, head->tables[version][xg_within(i, XG_FILTER_FIELDS)],
			packet->key[xg_within(head->keys[version][xg_within(i, XG_FILTER_FIELDS)], XG_FILTER_FIELDS)]);
		packet->row[xg_within(rows + i, XG_FILTER_FIELDS)] = xg_filter_row(head, entry);
		words &= entry >> 16;
	}
	packet->words = words;
	packet->rows = rows + fields;
}

static __always_inline u64 xg_filter_word(void *set, const struct xg_filtering *packet, u32 word)
{
	u64 candidates = ~0ull, at = word * 8;
	u32 i;

	/* `rows` is read each time, or the verifier would go on with each number that a way out of the loop has shown.
	 */
	for (i = 0; i < XG_FILTER_FIELDS && i < packet->rows; i++) {
		xg_hide(i); /* as in xg_filter_classify() */
		candidates &= *(u64 *)xg_set_high(set, packet->row[xg_within(i, XG_FILTER_FIELDS)] + at);
	}
	return candidates;
}

/* Intersects the rows, and leaves in `words` those words that are not zero. */
static __always_inline void xg_filter_intersect(void *set, struct xg_filtering *packet)
{
	u32 i, word;
	u64 candidates;

	packet->left = packet->words;
	for (i = 0; i < XG_FILTER_WORDS && packet->left; i++) {
		word = xg_within(xg_filter_lowest(set, packet->left), XG_FILTER_WORDS);
		packet->left &= packet->left - 1;
		candidates = xg_filter_word(set, packet, word);
		packet->word[word] = candidates;
		if (!candidates)
			packet->words &= ~(1u << word);
	}
}

/* A reason, or XG_NEXT: the SYN guard must see the packet. */
static __always_inline u32 xg_filters(struct xdp_md *ctx, struct xg_counters *counters,
				      const struct xg_settings *settings)
{
	struct xg_filtering *packet = &counters->filtering;
	void *set = xg_filter_set();
	const struct xg_filter_head *head = set;
	int i;

	if (!set)
		return packet->then;
	/* A set that has replaced another meanwhile is asked from its beginning. What the packet was counted by is not
	 * known by name, but that it was these, in this order, but for what the change was about. */
	if (!packet->resumed || packet->generation != head->generation) {
		packet->generation = head->generation;
		packet->outcome = XG_UNDECIDED;
		packet->state = XG_STATE_ANY;
		packet->tested = 0;
		packet->passed = 0;
		packet->candidates = 0;
		packet->wants = XG_WANTS_NOTHING;
		packet->repeats = packet->counted;
		if (!xg_filter_fields(ctx, head, packet))
			return packet->then;
		xg_filter_classify(set, packet);
		xg_filter_intersect(set, packet);
	}
	for (i = 0; i < XG_FILTER_TURNS; i++) {
		xg_filter_turn(ctx, counters, settings, set, packet);
		if (packet->outcome != XG_UNDECIDED)
			return packet->outcome;
	}
	packet->resumed = 1;
	programs.call(ctx, XG_PROGRAM_FILTERS);
	return packet->then;
}

#endif
