/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the command hears of, record by record. It reads many times a second; waking it up for each would cost more.
 * To be included where struct XG_RECORD is complete; its first member is `at`, when it happened.
 */
#ifndef XG_TCP_RING_H
#define XG_TCP_RING_H

#include "config.h"

#if !defined(XG_RING_PAGES) || !defined(XG_SPILL) || !defined(XG_RECORD)
#error "XG_RING_PAGES, XG_SPILL, XG_RECORD: pages of the ring, a power of two; entries beside it; name of the struct"
#endif

/* Which record; no CPU makes two at one time. */
struct xg_spilled {
	u64 at;
	u64 cpu;
};

/* The program writes, the command reads. Refused: the record goes to `spill`. */
BPF_RINGBUF_OUTPUT(events, XG_RING_PAGES);
/* Records that the ring did not take. The program writes, the command reads and removes. Full: counted in `lost`. */
BPF_TABLE("hash", struct xg_spilled, struct XG_RECORD, spill, XG_SPILL);
/* [0] -> records put into `spill` so far, per CPU. */
BPF_TABLE("percpu_array", u32, u64, spilled, 1);
/* [0] -> records that found no room, per CPU. */
BPF_TABLE("percpu_array", u32, u64, lost, 1);

/*
 * From Linux 6.15 on the ring's lock may be refused (kernel/bpf/rqspinlock.c): on a virtual machine it is when two CPUs
 * meet there, and the more so when the one that holds it is put off by its host. So there is a place beside the ring.
 */
static __always_inline void xg_put(struct XG_RECORD *record)
{
	struct xg_spilled key = { .at = record->at, .cpu = bpf_get_smp_processor_id() };
	u32 zero = 0;
	u64 *count;

	if (!events.ringbuf_output(record, sizeof(*record), BPF_RB_NO_WAKEUP))
		return;
	if (!events.ringbuf_output(record, sizeof(*record), BPF_RB_NO_WAKEUP))
		return;
	count = spill.update(&key, record) ? lost.lookup(&zero) : spilled.lookup(&zero);
	if (count)
		(*count)++;
}

#endif
