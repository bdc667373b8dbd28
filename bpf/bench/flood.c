/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The flood's frame maker, run by BPF_PROG_TEST_RUN with live frames. Pages come back with what the receiver did to
 * them, so every frame is written whole: the template, then a new source, source port and sequence number, then the
 * checksums, from the template's sums without those fields.
 */
#include <linux/types.h>

struct xg_flood_template {
	u8 frame[XG_FRAME_ROOM] __attribute__((aligned(4))); /* XG_FRAME of them, then up to three zeroes */
	u32 source;      /* last four bytes of the source address, network byte order */
	u32 source_mask; /* the bits of them that are random */
	u32 ip_sum;      /* of the IPv4 header without checksum and source's last four bytes */
	u32 l4_sum;      /* likewise of pseudo header, header and payload, without ports' first half and sequence */
	u32 random_port;
	u32 interval; /* ns between two frames; 0: as fast as it goes */
};

BPF_ARRAY(template_map, struct xg_flood_template, 1);
BPF_ARRAY(sent, u64, 1);
BPF_ARRAY(due, u64, 1); /* when the next frame may go, ns */

#define FLOOD_LONGEST_WAIT 4096 /* readings of the clock, of some 30 ns each */
#define FLOOD_SLACK 50000       /* ns that may be caught up on */

static inline u16 flood_fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static inline u64 flood_words(u32 value)
{
	return (value & 0xffff) + (value >> 16);
}

/* Waits here, frame by frame: pacing in larger pieces produces bursts that fill the receiver's ring. */
static inline void flood_wait(u64 *next, u32 interval)
{
	u64 now = bpf_ktime_get_ns();
	int i;

	if (*next + FLOOD_SLACK < now)
		*next = now - FLOOD_SLACK;
	for (i = 0; i < FLOOD_LONGEST_WAIT && now < *next; i++)
		now = bpf_ktime_get_ns();
	*next += interval;
}

int flood(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u32 zero = 0, source, sequence;
	struct xg_flood_template *template = template_map.lookup(&zero);
	u64 *count = sent.lookup(&zero), *next = due.lookup(&zero), sum;
	u16 port, checksum;

	if (!template || !count || !next || data + XG_FRAME > end)
		return XDP_ABORTED;
	if (template->interval)
		flood_wait(next, template->interval);
	__builtin_memcpy(data, template->frame, XG_FRAME);
	source = template->source | (bpf_get_prandom_u32() & template->source_mask);
	*(u32 *)(data + XG_SOURCE_AT) = source;
	sum = template->l4_sum + flood_words(source);
	port = *(u16 *)(data + XG_L4_AT);
	if (template->random_port)
		port = bpf_get_prandom_u32();
	*(u16 *)(data + XG_L4_AT) = port;
	sum += port;
	if (XG_TCP) {
		sequence = bpf_get_prandom_u32();
		*(u32 *)(data + XG_L4_AT + 4) = sequence;
		sum += flood_words(sequence);
	}
	*(u16 *)(data + XG_L4_AT + (XG_TCP ? 16 : 6)) = flood_fold(sum);
	if (XG_IPV4)
		*(u16 *)(data + 24) = flood_fold(template->ip_sum + flood_words(source));
	__sync_fetch_and_add(count, 1);
	return bpf_redirect(XG_IFINDEX, 0);
}
