/* SPDX-License-Identifier: GPL-2.0 */
/* Records for the command, which reads many times a second; waking it for each would cost more. */
#ifndef XG_TCP_RING_H
#define XG_TCP_RING_H

#include "switches.h"

#if !defined(XG_RING_PAGES)
#error "XG_RING_PAGES: pages of the ring, a power of two"
#endif

/* The program writes, the command reads. Full: the record is counted in `records_lost`. */
BPF_RINGBUF_OUTPUT(records, XG_RING_PAGES);
/* [0] -> records that did not fit into the ring, per CPU. */
BPF_TABLE("percpu_array", u32, u64, records_lost, 1);

static __always_inline void xg_put(void *record, u64 size)
{
	u32 zero = 0;
	u64 *count;

	if (!records.ringbuf_output(record, size, BPF_RB_NO_WAKEUP))
		return;
	count = records_lost.lookup(&zero);
	if (count)
		(*count)++;
}

#endif
