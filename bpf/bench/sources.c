/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The bench's packet maker, run by BPF_PROG_TEST_RUN: writes the whole frame with the next of many sources, and passes
 * it to the program under test by a tail call. So one maker serves every program, including the empty one.
 *
 * It writes in units as wide as the later loads: a load that spans two stores would wait for both, which does not
 * happen in a frame written by a network card.
 */
#include <linux/types.h>

#define BENCH_WORDS ((XG_FRAME - 2) / 4)

struct bench_frame {
	u16 unused; /* so that the words lie as in the frame, where the IP header begins at a second byte */
	u16 first;
	u32 words[BENCH_WORDS];
};

struct bench_source {
#if XG_IPV6
	u64 half[2];
#else
	u32 address;
#endif
};

BPF_ARRAY(frames, struct bench_frame, 1);
BPF_ARRAY(sources, struct bench_source, XG_SOURCES);
BPF_ARRAY(next, u32, 1);
BPF_PROG_ARRAY(tested, 1);

/* volatile: or the compiler might join two stores, or tear one apart. */
static inline void bench_write(u8 *data, const struct bench_frame *frame, const struct bench_source *source)
{
	volatile u32 *words = (void *)(data + 2);
	int i;

	*(volatile u16 *)data = frame->first;
#if XG_IPV6
#pragma unroll
	for (i = 0; i < 5; i++)
		words[i] = frame->words[i];
	*(volatile u64 *)(data + 22) = source->half[0];
	*(volatile u64 *)(data + 30) = source->half[1];
	*(volatile u64 *)(data + 38) = *(u64 *)&frame->words[9];
	*(volatile u64 *)(data + 46) = *(u64 *)&frame->words[11];
#pragma unroll
	for (i = 13; i < BENCH_WORDS; i++)
		words[i] = frame->words[i];
#else
#pragma unroll
	for (i = 0; i < BENCH_WORDS; i++)
		words[i] = i == 6 ? source->address : frame->words[i];
#endif
}

int make(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 zero = 0, place;
	struct bench_frame *frame = frames.lookup(&zero);
	u32 *at = next.lookup(&zero);
	struct bench_source *source;

	if (!frame || !at || data + XG_FRAME > end)
		return XDP_ABORTED;
	place = *at;
	*at = place + 1 < XG_SOURCES ? place + 1 : 0;
	source = sources.lookup(&place);
	if (!source)
		return XDP_ABORTED;
	bench_write(data, frame, source);
	tested.call(ctx, 0);
	return XDP_ABORTED; /* there was none to call */
}
