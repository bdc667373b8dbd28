/* SPDX-License-Identifier: GPL-2.0 */
/* The maps of the filters, as those of maps.h. */
#ifndef XG_FILTERMAPS_H
#define XG_FILTERMAPS_H

#include "abi.h"
#include "config.h"

/*
 * The filters (stages/filterset.h): a set is an array of one value, a block of XG_FILTER_SET_SIZE bytes, whatever this
 * pattern says: clang would take minutes over a value so large. The controller builds a new set beside the one in force
 * and then replaces it here; maps it into memory and writes, the program reads.
 */
BPF_F_TABLE("array", u32, u64, filter_layout, 1, BPF_F_MMAPABLE);
BPF_TABLE_PINNED("array_of_maps$filter_layout", u32, u32, filter_set, 1, XG_PINS "/filter_set");

/* [cpu * XG_FILTER_SLOTS + slot] -> what a filter matched. As `hits` below. */
BPF_F_TABLE("array:" XG_PINS "/filter_hits", u32, struct xg_filter_hits, filter_hits,
	    (XG_MAX_CPUS + 1) * XG_FILTER_SLOTS, BPF_F_MMAPABLE);

/* Slot -> the token bucket that all packets of a filter share. Program reads and writes, all CPUs together. */
BPF_TABLE_PINNED("array", u32, u64, filter_buckets, XG_FILTER_SLOTS, XG_PINS "/filter_buckets");

/* Hash of a source -> token buckets: see stages/rates.h. Likewise. Full: the least active source of four is evicted.
 */
BPF_TABLE_PINNED("array", u32, struct xg_filter_buckets, source_buckets, XG_FILTER_SETS, XG_PINS "/source_buckets");

#endif
