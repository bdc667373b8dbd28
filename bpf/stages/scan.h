/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Port scans. SYNs to many ports prove nothing about the source they name: anybody can forge it. So a source that seems
 * to scan is challenged: its SYN to a port that nobody listens on is answered with a SYN cookie. If the source
 * acknowledges the cookie, it does receive what is sent to it, and the controller is notified; the kernel then resets
 * the connection.
 */
#ifndef XG_STAGES_SCAN_H
#define XG_STAGES_SCAN_H

#include "../algo/token_bucket.h"
#include "events.h"
#include "local.h"
#include "syn_cookie.h"

/* Whether a segment to a port that nobody listens on counts as part of a scan. */
static __always_inline bool xg_scan_asks(const struct xg_packet *packet, const struct xg_guard *guard,
					 const struct xg_guard_policy *policy)
{
	return XG_RAW_COOKIES && !XG_OBSERVE && packet->suspect && policy->scan && policy->mode >= XG_GUARD_AUTO &&
	       !guard->mute && !(packet->tcp_flags & XG_RST) && xg_answerable_source(packet, guard);
}

/*
 * Handles such a segment: XG_REASON_cookie_sent if it is a SYN to be challenged, XG_REASON_pass if it is an ACK that
 * answers the challenge, or XG_NEXT.
 */
static __always_inline u32 xg_scan(struct xdp_md *ctx, struct xg_work *work, struct xg_counters *counters,
				   struct xg_guard *guard, u64 now)
{
	const struct xg_packet *packet = &work->packet;
	static const struct xg_rate most = { .interval = 1000000, .burst = 1000000000 }; /* a thousand a second */

	if (xg_initial_syn(packet))
		return xg_answer_for_nobody(ctx, work) ? XG_REASON_cookie_sent : XG_NEXT;
	if (packet->tcp_flags & XG_SYN || xg_check_cookie(ctx, NULL, packet))
		return XG_NEXT;
	if (xg_bucket_take(&guard->scans, now, &most))
		xg_send_event(ctx, packet, counters, XG_EVENT_SCAN, now, 0);
	else
		counters->events_lost++;
	return XG_REASON_pass;
}

#endif
