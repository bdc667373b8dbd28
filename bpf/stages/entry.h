/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An entry of the lists' index is a word. Bits 34-47 number its end in the index's table of ends, 0: it has none. Once
 * that end has come the entry is passed over, so that a shorter prefix, of whichever list, decides.
 * Python writes the table: xdpguard/dataplane/tables/endings.py.
 */
#ifndef XG_STAGES_ENTRY_H
#define XG_STAGES_ENTRY_H

#include "../clock.h"
#include "../maps.h"
#include "../verifier.h"

#define XG_ENTRY_KEY 0x3ffffffffull
#define XG_ENTRY_PREFIX (1ull << 32)
#define XG_ENTRY_SHORT 2
#define XG_ENTRY_THERE (1ull << 33)
#define XG_END_AT 34
#define XG_END_MASK 0x3fff
#define XG_LIST_AT 48
#define XG_UNLISTED 0xffff

static __always_inline struct xg_line *xg_index_line(void *index, u32 number)
{
	return bpf_map_lookup_elem_((uintptr_t)index, &number);
}

/*
 * Whether an entry is in force; false for 0, which is none. `end` is set to its end (CLOCK_BOOTTIME, ns; 0: never). The
 * clock is read only for an entry that has one.
 *
 * Who asks hides the entry that results: clang 16 otherwise makes a path of its own for each way here, which the
 * verifier follows through the rest of the program (502,000 instructions for the probe, instead of 125,000).
 */
static __always_inline bool xg_entry_lasts(void *index, const struct xg_index *head, u64 entry, u64 *end)
{
	u32 number = entry >> XG_END_AT & XG_END_MASK;
	struct xg_line *line;

	*end = 0;
	if (!number)
		return entry;
	line = xg_index_line(index, head->ends + (number >> 3));
	if (!line)
		return false;
	*end = line->word[number & 7];
	return *end > xg_now_boot();
}

#endif
