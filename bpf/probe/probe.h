/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The program as a probe (XG_PROBE): asked what it would do with frames that never arrived. It reads the instance's own
 * maps and writes to none of them: its answers go into maps of its own, which disappear with it. BPF_PROG_TEST_RUN runs
 * it, once for each frame.
 *
 * Where the stages would count a hit they report the entry, and they can be told to continue as if an entry did not
 * exist.
 */
#ifndef XG_PROBE_PROBE_H
#define XG_PROBE_PROBE_H

#include "../abi.h"
#include "../config.h"

enum xg_probe_entry {
	XG_PROBE_NOTHING,
	XG_PROBE_RULE,
	XG_PROBE_LIST,
	XG_PROBE_FILTER,
};

#if XG_PROBE

/* What is asked, and [place] -> what came of each frame. Python maps both into memory. */
BPF_F_TABLE("array", u32, struct xg_probe_state, probe_state, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct xg_probe_answer, probe_answers, XG_PROBE_BATCH, BPF_F_MMAPABLE);

static __always_inline struct xg_probe_answer *xg_probe_this_answer(void)
{
	u32 zero = 0, place;
	struct xg_probe_state *state = probe_state.lookup(&zero);

	if (!state)
		return NULL;
	place = state->place;
	return probe_answers.lookup(&place);
}

/* An entry decides about the frame. */
static __always_inline void xg_probe_hit(u32 entry, u32 number)
{
	struct xg_probe_answer *answer = xg_probe_this_answer();

	if (!answer)
		return;
	answer->entry = entry;
	answer->number = number;
}

/* Of the frame whose verdict has been said. */
static __always_inline struct xg_probe_answer *xg_probe_last_answer(void)
{
	u32 zero = 0, last;
	struct xg_probe_state *state = probe_state.lookup(&zero);

	if (!state)
		return NULL;
	last = state->place - 1;
	return probe_answers.lookup(&last);
}

/* A shadow entry would hit it. */
static __always_inline void xg_probe_shadow(u32 place, u32 shadow_class)
{
	struct xg_probe_answer *answer = xg_probe_last_answer();

	if (!answer)
		return;
	answer->shadow = place + 1;
	answer->shadow_class = shadow_class;
}

/* Whether the program should continue as if that entry did not exist. */
static __always_inline bool xg_probe_without(u32 entry, u32 number)
{
	u32 zero = 0;
	struct xg_probe_state *state = probe_state.lookup(&zero);

	return state && state->without == entry && state->number == number;
}

/* The frame's own length, bytes, of which the buffer may hold the beginning only. */
static __always_inline u32 xg_probe_length(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct xg_probe_state *state = probe_state.lookup(&zero);

	return state && state->length ? state->length : ctx->data_end - ctx->data;
}

/* The verdict on the frame; what follows is the next one. */
static __always_inline void xg_probe_finish(u32 reason, int verdict, bool observed)
{
	u32 zero = 0;
	struct xg_probe_state *state = probe_state.lookup(&zero);
	struct xg_probe_answer *answer = xg_probe_this_answer();

	if (!state || !answer)
		return;
	answer->reason = reason;
	answer->verdict = verdict;
	answer->observed = observed;
	state->place++;
}

#else

static __always_inline void xg_probe_hit(u32 entry, u32 number)
{
}

static __always_inline void xg_probe_shadow(u32 place, u32 shadow_class)
{
}

static __always_inline bool xg_probe_without(u32 entry, u32 number)
{
	return false;
}

static __always_inline u32 xg_probe_length(struct xdp_md *ctx)
{
	return 0;
}

static __always_inline void xg_probe_finish(u32 reason, int verdict, bool observed)
{
}

#endif

#endif
