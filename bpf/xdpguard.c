/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xdpguard's data plane: one frame in, one verdict out, counted exactly once.
 *
 * Four programs: xdpguard inspects each packet, and is all that most packets meet; xdpguard_filters asks the filters,
 * if there are any; xdpguard_guard is the SYN guard, for the packets it needs to see; xdpguard_after does the remaining
 * work after the verdict. Each is verified separately and entered by a tail call (programs.h).
 *
 * The files are joined into one text in the order of these lines (xdpguard/dataplane/build/bundle.py), because bcc's
 * map methods work only there.
 */
#include <linux/types.h>

#include "config.h"

#include "abi.h"
#include "maps.h"
#include "filtermaps.h"
#include "packet.h"
#include "verifier.h"
#include "verdict.h"

#include "parse/parse.h"
#include "stages/count.h"
#include "stages/lists.h"
#include "stages/track.h"
#include "stages/ports.h"
#include "stages/sanity.h"
#include "stages/wanted.h"
#include "stages/syn_guard.h"
#include "stages/classify.h"

#include "programs.h"
#include "after.h"
#include "finish.h"

/* The stages that every packet passes, in order; the first one that returns a reason decides. */
static __always_inline u32 xg_inspect(struct xg_cursor *cursor, struct xg_packet *packet, struct xg_counters *counters,
				      const struct xg_settings *settings)
{
	struct xg_source_counts *known = NULL;
	u32 reason = xg_parse_ip(cursor, packet);

	if (reason != XG_NEXT)
		return reason;
	if (settings->filters)
		xg_filter_note(cursor, packet, &counters->filtering);
	xg_count(packet, counters);
	xg_forget(packet, settings->zero);
	reason = xg_lists(packet, counters, settings, &known);
	if (reason == XG_REASON_deny)
		return reason;
	packet->suspect = xg_track(packet, counters, settings, known);
	if (reason != XG_NEXT)
		return reason;
	reason = packet->needed ? XG_NEXT : xg_closed_port(packet, settings);
	if (reason != XG_NEXT)
		return reason;
	reason = xg_sanity(packet);
	if (reason != XG_NEXT)
		return reason;
	if (!XG_LOOPBACK && xg_guard_wanted(packet, counters))
		return XG_NEXT;
	return packet->later_fragment ? XG_REASON_fragment : XG_REASON_pass;
}

/*
 * Called with a constant IP version and a separate packet for each version: the compiler then makes one straight path
 * for each, which is faster than a path that tests the version again at every stage. XG_NEXT: the SYN guard must see
 * the packet.
 */
static __always_inline u32 xg_handle(struct xg_cursor *cursor, u32 length, u8 ip_version, struct xg_counters *counters,
				     const struct xg_settings *settings)
{
	struct xg_packet packet = { .length = length, .ip_version = ip_version };
	u32 reason = xg_inspect(cursor, &packet, counters, settings);

	if (reason == XG_NEXT)
		xg_hand_over(&packet, &counters->handover);
	if (settings->filters)
		counters->filtering.needed = packet.needed;
	return reason;
}

/* Asks the filters about a packet that passes, or is the SYN guard's, as far as the stages before them are concerned.
 */
static __always_inline void xg_ask_filters(struct xdp_md *ctx, struct xg_counters *mine, u32 reason)
{
	if (reason != XG_NEXT && reason != XG_REASON_pass && reason != XG_REASON_fragment)
		return;
	mine->filtering.then = reason;
	mine->filtering.resumed = 0;
	programs.call(ctx, XG_PROGRAM_FILTERS);
}

/* Counts the packet and ends it, here or in the program that does the remaining work. */
static __always_inline int xg_end(struct xdp_md *ctx, struct xg_counters *mine, const struct xg_settings *rules,
				  u32 length, bool observed, u32 reason)
{
	u32 verdict;

	/* Through memory: from here on the verifier follows one path, not all that lead here. */
	mine->after.reason = reason;
	mine->after.observed = observed;
	xg_barrier();
	reason = mine->after.reason;
	observed = mine->after.observed;
	verdict = xg_finish(mine, length, observed, reason);
	xg_go_on(ctx, mine, rules, length, reason, verdict);
	return verdict;
}

int xdpguard(struct xdp_md *ctx)
{
	struct xg_cursor cursor;
	u32 zero = 0, length, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	__be16 type;

	/* An array always has its entry; the verifier wants to see it checked. */
	if (!mine || !rules)
		return XDP_PASS;
	length = xg_frame_length(ctx);
	reason = xg_parse_frame(ctx, &cursor, length, rules->zero, &type);
	if (reason == XG_NEXT) {
		if (type == bpf_htons(ETH_P_IP))
			reason = xg_handle(&cursor, length, 4, mine, rules);
		else if (type == bpf_htons(ETH_P_IPV6))
			reason = xg_handle(&cursor, length, 6, mine, rules);
		else
			reason = XG_REASON_non_ip;
		if (rules->filters)
			xg_ask_filters(ctx, mine, reason);
		if (reason == XG_NEXT) {
			programs.call(ctx, XG_PROGRAM_GUARD);
			/* Without the guard nothing is left that could object. */
			reason = XG_REASON_pass;
		}
	}
	return xg_end(ctx, mine, rules, length, false, reason);
}

/* Entered by a tail call with what xdpguard() has found out in `filtering`; and by one of its own, for what is left. */
int xdpguard_filters(struct xdp_md *ctx)
{
	u32 zero = 0, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);

	if (!mine || !rules)
		return XDP_PASS;
	reason = xg_filters(ctx, mine, rules);
	if (reason == XG_NEXT) {
		programs.call(ctx, XG_PROGRAM_GUARD);
		reason = XG_REASON_pass;
	}
	return xg_end(ctx, mine, rules, mine->filtering.length, false, reason);
}

/* Entered by a tail call with what xdpguard() has found out in `handover`. */
int xdpguard_guard(struct xdp_md *ctx)
{
	u32 zero = 0, length, reason;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	bool observed = false;

	if (!mine || !rules)
		return XDP_PASS;
	/* The guard's answer is a frame of another length. */
	length = xg_frame_length(ctx);
	reason = xg_syn_guard(ctx, mine, rules, &observed);
	return xg_end(ctx, mine, rules, length, observed, reason);
}

/* Entered by a tail call after the verdict, which it returns. */
int xdpguard_after(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct xg_counters *mine = counters.lookup(&zero);
	struct xg_settings *rules = settings.lookup(&zero);
	struct xg_after after;

	if (!mine || !rules)
		return XDP_PASS;
	after = mine->after;
	xg_do_after(ctx, mine, rules, &after);
	return after.verdict;
}
