/* SPDX-License-Identifier: GPL-2.0 */
/* The TCP options of a SYN, read as the kernel reads them: tcp_parse_options(), net/ipv4/tcp_input.c. */
#ifndef XG_PARSE_OPTIONS_H
#define XG_PARSE_OPTIONS_H

#include <linux/tcp.h>

#include "../packet.h"
#include "../verifier.h"

#define XG_OPTION_END 0
#define XG_OPTION_NOP 1
#define XG_OPTION_MSS 2
#define XG_OPTION_WSCALE 3
#define XG_OPTION_SACK 4
#define XG_OPTION_TIMESTAMPS 8
#define XG_OPTION_MD5 19   /* RFC 2385 */
#define XG_OPTION_AO 29    /* RFC 5925 */
#define XG_OPTION_MPTCP 30 /* RFC 8684 */
#define XG_MPTCP_JOIN 1    /* its subtype, in the upper half of its third byte */
#define XG_OPTION_BOUND 5  /* stands for those of which a plain answer makes nothing */
#define XG_OPTIONS_MAX 40  /* bytes: doff 15 */
#define XG_OPTIONS_ROOM 64
#define XG_WSCALE_MAX 14  /* RFC 7323, 2.3 */
#define XG_WSCALE_NONE 15 /* TS_OPT_WSCALE_MASK: not given */

/*
 * Part of struct xg_work, so that the verifier does not follow each combination of options on its own; volatile, so
 * that the compiler keeps none of it in registers. See verifier.h.
 */
struct xg_syn_options {
	u8 octets[XG_OPTIONS_ROOM];
	volatile u8 given;  /* a bit a kind: see xg_given() */
	volatile u8 next;   /* where the reading goes on */
	volatile u8 length; /* of all options */
	volatile u8 wscale;
	volatile __be32 timestamp;
	volatile u16 mss;
	volatile u16 zero;
};

static __always_inline u32 xg_octet(const struct xg_syn_options *options, u64 at)
{
	return options->octets[xg_within(at, XG_OPTIONS_ROOM)];
}

static __always_inline void xg_take_option(struct xg_syn_options *found, u64 at, u64 size)
{
	u32 kind = xg_octet(found, at), value;

	if (kind == XG_OPTION_MSS && size == 4) {
		value = xg_octet(found, at + 2) << 8 | xg_octet(found, at + 3);
		if (!value)
			return;
		found->mss = value;
	} else if (kind == XG_OPTION_WSCALE && size == 3) {
		value = xg_octet(found, at + 2);
		found->wscale = value > XG_WSCALE_MAX ? XG_WSCALE_MAX : value;
	} else if (kind == XG_OPTION_TIMESTAMPS && size == 10) {
		found->timestamp = bpf_htonl(xg_octet(found, at + 2) << 24 | xg_octet(found, at + 3) << 16 |
					     xg_octet(found, at + 4) << 8 | xg_octet(found, at + 5));
	} else if (kind == XG_OPTION_MD5 || kind == XG_OPTION_AO ||
		   (kind == XG_OPTION_MPTCP && size > 2 && xg_octet(found, at + 2) >> 4 == XG_MPTCP_JOIN)) {
		kind = XG_OPTION_BOUND;
	} else if (kind != XG_OPTION_SACK || size != 2) {
		return;
	}
	found->given |= 1u << (kind & 7);
}

static __always_inline bool xg_given(const struct xg_syn_options *options, u32 kind)
{
	return (options->given >> (kind & 7)) & 1;
}

/* Copies the options, as far as the first buffer holds them; what is not there reads as the end of the options. */
static __always_inline void xg_copy_options(const u32 *first, const void *end, struct xg_syn_options *found)
{
	const u32 *word;
	int i;

#pragma unroll
	for (i = 0; i < XG_OPTIONS_MAX / 4; i++) {
		word = first + i;
		/* Or the comparison becomes one that the verifier does not learn from. */
		xg_hide(word);
		if (i * 4 >= found->length || (const void *)(word + 1) > end)
			break;
		((volatile u32 *)found->octets)[i] = *word;
	}
}

/* Reads `length` bytes of options at `first`. Nonsense ends the reading, as in the kernel. */
static __always_inline void xg_parse_options(const void *first, u32 length, const void *end,
					     struct xg_syn_options *found)
{
	u64 size, kind, at;
	int i;

	found->given = 0;
	found->mss = 0;
	if (!length)
		return;
	__builtin_memset(found, 0, sizeof(*found));
	found->length = length;
	xg_copy_options(first, end, found);
	/* Two bytes at least each time. */
	for (i = 0; i < XG_OPTIONS_MAX / 2; i++) {
		at = found->next;
		if (at < found->length && xg_octet(found, at) == XG_OPTION_NOP)
			at++;
		if (at >= found->length)
			return;
		kind = xg_octet(found, at);
		if (kind == XG_OPTION_END)
			return;
		if (kind == XG_OPTION_NOP) {
			found->next = at + 1;
			continue;
		}
		size = xg_octet(found, at + 1);
		if (at + 2 > found->length || size < 2 || at + size > found->length)
			return;
		xg_take_option(found, at, size);
		found->next = at + size;
	}
}

#endif
