/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The index of the named lists: which list an address stands in, whatever the number of entries. Most packets read
 * the pre-filter and nothing else. After it come hash tables of whole cache lines, filled from the left: an entry
 * stands in one line or, when that is full, perhaps in a second one.
 *
 *   table4    8 entries a line: 0-31 address or prefix, 32 it is a prefix, 33 there is an entry, 34-47 end, 48-63 list
 *   table6    2 entries a line: upper half, lower half, as above but 0 it is a /64 or /128, 1 it is no longer than
 *             /64 and stands in the lower half, the upper one being 0; unused
 *   lengths4  [/16] 32 bits: the lengths of prefixes that touch it
 *   lengths6  [hash of /32] two words: lengths up to 64, longer ones
 *   ends      8 a line: when entries end, by the number in bits 34-47; see entry.h
 *
 * A prefix is written as its network with the first bit after it set. So its length is known, and a length L is
 * written as the bit 1 << (32 - L), or 64 - L, or 128 - L: the lowest bit is the longest prefix.
 * Python builds it: xdpguard/dataplane/tables/index.py.
 */
#ifndef XG_STAGES_INDEX_H
#define XG_STAGES_INDEX_H

#include "entry.h"
#include "nets6.h"

#define XG_INDEX_LENGTHS 16 /* of IPv6 prefixes in a table; the builder writes others as several longer ones */

/* The entry of table4 with that key, or 0 if there is none in force. `end`: its end, see xg_entry_lasts(). */
static __always_inline u64 xg_find4(void *index, const struct xg_index *head, u64 key, u64 *end)
{
	u32 hash = xg_hash_pair(head->multiplier, key, 0);
	struct xg_line *line;
	u64 found = 0;
	int i, j;

	for (i = 0; i < 2; i++) {
		line = xg_index_line(index, head->table4 + xg_hash_place(hash, head->lines4));
		if (!line)
			break;
#pragma unroll
		for (j = 0; j < 8; j++)
			found |= line->word[j] & xg_same(line->word[j] & XG_ENTRY_KEY, key);
		if (found || !line->word[7])
			break;
		hash = xg_hash_again(hash);
	}
	found = xg_entry_lasts(index, head, found, end) ? found : 0;
	xg_hide(found); /* see xg_entry_lasts() */
	return found;
}

/* The entry of table6 with that key, as xg_find4() does. */
static __always_inline u64 xg_find6(void *index, const struct xg_index *head, u64 high, u64 low, u64 kind, u64 *end)
{
	u32 hash = xg_hash_pair(head->multiplier, high, low ^ kind);
	struct xg_line *line;
	u64 found = 0;
	int i, j;

	for (i = 0; i < 2; i++) {
		line = xg_index_line(index, head->table6 + xg_hash_place(hash, head->lines6));
		if (!line)
			break;
#pragma unroll
		for (j = 0; j < 8; j += 4)
			found |= line->word[j + 2] & xg_same(line->word[j], high) & xg_same(line->word[j + 1], low) &
				 xg_same(line->word[j + 2] & XG_ENTRY_KEY, kind);
		if (found || !line->word[6])
			break;
		hash = xg_hash_again(hash);
	}
	found = xg_entry_lasts(index, head, found, end) ? found : 0;
	xg_hide(found); /* see xg_entry_lasts() */
	return found;
}

/* The longest listed prefix that contains the address, of the lengths that occur in its /16. */
static __always_inline u64 xg_find_prefix4(void *index, const struct xg_index *head, u32 address, u64 *end)
{
	struct xg_line *line = xg_index_line(index, head->lengths4 + (address >> 20));
	u32 lengths, bit;
	u64 found = 0;
	int i;

	if (!line)
		return 0;
	lengths = line->word[address >> 17 & 7] >> (address >> 11 & 32);
	for (i = 0; i < 32 && lengths && !found; i++) {
		bit = lengths & -lengths;
		lengths ^= bit;
		found = xg_find4(index, head, XG_ENTRY_THERE | XG_ENTRY_PREFIX | (address & -bit) | bit >> 1, end);
	}
	return found;
}

/* The longest listed IPv6 prefix that contains the address: `longer` are lengths from 65 on, `shorter` the others. */
static __always_inline u64 xg_find_prefix6(void *index, const struct xg_index *head, u64 high, u64 low, u64 longer,
					   u64 shorter, u64 *end)
{
	u64 bit, found = 0, kind = XG_ENTRY_THERE;
	int i;

	for (i = 0; i < XG_INDEX_LENGTHS && !found; i++) {
		if (!longer) {
			if (!shorter)
				break;
			longer = shorter;
			shorter = 0;
			low = high;
			high = 0;
			kind |= XG_ENTRY_SHORT;
		}
		bit = longer & -longer;
		longer ^= bit;
		found = xg_find6(index, head, high, (low & -bit) | bit >> 1, kind | (bit & 1), end);
	}
	return found;
}

/* What a pre-filter's line says of an IPv4 address (host byte order): bit 0, an address near it is listed, bit 1, a
 * prefix.
 */
static __always_inline u32 xg_nets4_touched(const struct xg_nets4 *nets, u32 address)
{
	u32 bit = address >> 8 & 63;

	return nets ? (nets->addresses >> bit & 1) | (nets->prefixes >> bit & 1) << 1 : 0;
}

static __always_inline u32 xg_list_touches4(u32 address)
{
	u32 word = address >> 14;

	return xg_nets4_touched(list_nets4.lookup(&word), address);
}

static __always_inline bool xg_list_touches6(u64 high)
{
	struct xg_net6 net = xg_net6_of(high);
	u32 place = net.net >> 16;

	return xg_net6_touched(list_nets6.lookup(&place), &net);
}

static __always_inline void *xg_index_in_force(void)
{
	u32 zero = 0;

	return list_index.lookup(&zero);
}

/*
 * The number of the list that contains an address, or XG_UNLISTED; and when its entry ends, 0: never. `touched` is the
 * result of the pre-filter.
 */
static __always_inline u32 xg_look_up4(void *index, u32 address, u32 touched, u64 *end)
{
	struct xg_index *head = index ? (void *)xg_index_line(index, 0) : NULL;
	u64 found = 0;

	if (!head)
		return XG_UNLISTED;
	if (touched & 1)
		found = xg_find4(index, head, XG_ENTRY_THERE | address, end);
	if (!found && (touched & 2))
		found = xg_find_prefix4(index, head, address, end);
	return found ? found >> XG_LIST_AT : XG_UNLISTED;
}

/* As xg_look_up4(), of an IPv6 address; both halves in host byte order. */
static __always_inline u32 xg_look_up6(void *index, u64 high, u64 low, u64 *end)
{
	struct xg_index *head = index ? (void *)xg_index_line(index, 0) : NULL;
	struct xg_line *line;
	u64 lengths, found;
	u32 bucket;

	if (!head)
		return XG_UNLISTED;
	bucket = xg_hash_place(xg_hash_pair(head->multiplier, high >> 32, 0), head->buckets6);
	line = xg_index_line(index, head->lengths6 + (bucket >> 2));
	if (!line)
		return XG_UNLISTED;
	lengths = line->word[2 * (bucket & 3)] | head->short6;
	found = xg_find_prefix6(index, head, high, low, line->word[2 * (bucket & 3) + 1], lengths, end);
	return found ? found >> XG_LIST_AT : XG_UNLISTED;
}

#endif
