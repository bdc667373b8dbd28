/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pre-filter for IPv6: can an entry touch this address? It reads one cache line, chosen by the address's /32. In it
 * one bit stands for the /32, set when an entry of 16 to 47 bits touches it, and one for the /48, set by longer
 * entries. Bits may collide, which costs a lookup and decides nothing. Python writes it: dataplane/tables/nets6.py.
 */
#ifndef XG_STAGES_NETS6_H
#define XG_STAGES_NETS6_H

#include "../algo/hash.h"
#include "../maps.h"

#define XG_NETS6_MULTIPLIER 0x9e3779b97f4a7c15ull

struct xg_net6 {
	u32 net;    /* hash of the /32 */
	u32 subnet; /* hash of the /48 */
};

/* `high` is the upper half of the address in host byte order. */
static __always_inline struct xg_net6 xg_net6_of(u64 high)
{
	struct xg_net6 found = {
		.net = xg_hash_pair(XG_NETS6_MULTIPLIER, high >> 32, 0),
		.subnet = xg_hash_pair(XG_NETS6_MULTIPLIER, high >> 16, 1),
	};

	return found;
}

/* The hash's upper bits choose the line, its lower nine the bit. */
static __always_inline bool xg_net6_touched(const struct xg_line *line, const struct xg_net6 *net)
{
	return line && ((line->word[net->net >> 6 & 7] >> (net->net & 63) & 1) ||
			(line->word[net->subnet >> 6 & 7] >> (net->subnet & 63) & 1));
}

#endif
