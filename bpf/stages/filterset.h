/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A set of filters: a block of bytes that is built in user space and then replaced as a whole. It answers which filters
 * match, whatever their number, by bit vectors (Lakshman and Stiliadis, SIGCOMM 1998): for each field, the value leads
 * to a row with one bit a filter, those that do not test the field included; the rows are intersected; the first bit
 * that is left is the filter.
 *
 * A value leads to its row in two steps. Its upper byte is a place in the field's table, which names a page; its lower
 * byte is a place in that page. Equal pages are stored once, so that few values need little room. Of an address, the
 * upper 16 bits are looked up so, of an IPv6 address, what xg_filter_key6() makes of it. Where an address can have
 * several rows behind that, the page names a node: a part of the sorted bounds between them, which is searched.
 *
 *   entry    0-14 number of the row, 15 it is a node, 16-31 the row's summary: a bit for each of its words that is not
 *            zero; or, of a node, 0-14 and 16-31: its number
 *   tables   [field] 512 u16: numbers of pages; 256 is for packets that lack the field
 *   pages    256 entries
 *   nodes    u32 first, count: of bounds
 *   bounds4  u32 address, entry; those of IPv6: two u64, the upper half first, and their entries apart
 *   rows     16 u64
 *
 * Rows and all that belongs to IPv6 stand in the upper half. Python builds it: xdpguard/dataplane/tables/classifier.py.
 */
#ifndef XG_STAGES_FILTERSET_H
#define XG_STAGES_FILTERSET_H

#include "../filtermaps.h"
#include "../verifier.h"

#define XG_FILTER_HALF 0x200000 /* bytes; offsets are masked by it */
#define XG_FILTER_HIGH 0x1fe000 /* where the upper half begins */
#define XG_FILTER_SET_SIZE 0x3ff000
#define XG_FILTER_PLACES 1024 /* of the tables */
#define XG_FILTER_NODE 0x8000
#define XG_FILTER_STEPS 17 /* of a search: 131,072 bounds */

static __always_inline void *xg_set_low(void *set, u64 offset)
{
	return set + xg_within(offset, XG_FILTER_HALF);
}

static __always_inline void *xg_set_high(void *set, u64 offset)
{
	return set + XG_FILTER_HIGH + xg_within(offset, XG_FILTER_HALF);
}

static __always_inline void *xg_filter_set(void)
{
	u32 zero = 0;
	void *set = filter_set.lookup(&zero);

	return set ? bpf_map_lookup_elem_((uintptr_t)set, &zero) : NULL;
}

/* The entry of a value, or of XG_FILTER_LACKING. */
static __always_inline u32 xg_filter_entry(void *set, u32 table, u32 key)
{
	const struct xg_filter_head *head = set;
	u32 page = *(u16 *)xg_set_low(set, XG_FILTER_PLACES + table * 1024ull + (key >> 8) * 2);

	return *(u32 *)xg_set_low(set, head->pages + page * 1024ull + (key & 255) * 4);
}

static __always_inline u32 *xg_filter_node(void *set, u32 entry)
{
	const struct xg_filter_head *head = set;
	u64 number = (entry & (XG_FILTER_NODE - 1)) | entry >> 16 << 15;

	return xg_set_low(set, head->nodes + number * 8);
}

/* The entry of an IPv4 address, in host byte order, among the bounds of a node: that of the last one not above it. */
static __always_inline u32 xg_filter_search4(void *set, u64 bounds, u32 entry, u64 address)
{
	const u32 *node = xg_filter_node(set, entry);
	u64 at = bounds + node[0] * 8ull, count = node[1], half, below;
	int i;

	for (i = 0; i < XG_FILTER_STEPS && count > 1; i++) {
		half = count >> 1;
		below = (address - *(u32 *)xg_set_low(set, at + half * 8)) >> 63;
		xg_hide(below);
		at += (half * 8) & (below - 1);
		count -= half;
	}
	return *(u32 *)xg_set_low(set, at + 4);
}

/* 1 if what is subtracted, and a borrow of before, is more. */
static __always_inline u64 xg_borrow(u64 from, u64 what, u64 before)
{
	return ((~from & what) | ((~from | what) & (from - what - before))) >> 63;
}

/* As xg_filter_search4(), of an IPv6 address. */
static __always_inline u32 xg_filter_search6(void *set, u64 bounds, u64 entries, u32 entry, u64 high, u64 low)
{
	const u32 *node = xg_filter_node(set, entry);
	u64 at = node[0], count = node[1], half, below, *bound;
	int i;

	for (i = 0; i < XG_FILTER_STEPS && count > 1; i++) {
		half = count >> 1;
		bound = xg_set_high(set, bounds + (at + half) * 16);
		below = xg_borrow(high, bound[0], xg_borrow(low, bound[1], 0));
		xg_hide(below);
		at += half & (below - 1);
		count -= half;
	}
	return *(u32 *)xg_set_high(set, entries + at * 4);
}

/* By what an IPv6 address is looked up first: its distance from the lowest bound, in steps that suit the set. */
static __always_inline u32 xg_filter_key6(const struct xg_filter_head *head, int which, u64 high)
{
	u64 base = head->base6[which], step;

	if (high < base)
		return 0;
	step = (high - base) >> (head->shift6[which] & 63);
	return step < 0xffff ? step + 1 : 0xffff;
}

/* The number of the lowest bit, by de Bruijn multiplication: LLVM 14 has nothing for it. */
static __always_inline u32 xg_filter_lowest(const struct xg_filter_head *head, u64 bits)
{
	return head->bits[((bits & -bits) * 0x022fdd63cc95386dull) >> 58];
}

#endif
