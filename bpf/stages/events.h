/* SPDX-License-Identifier: GPL-2.0 */
/* Events sent to the controller at once. Each kind is rare by nature; one that finds the ring full is counted. */
#ifndef XG_STAGES_EVENTS_H
#define XG_STAGES_EVENTS_H

#include "../maps.h"
#include "../packet.h"

static __always_inline void xg_send_event(struct xdp_md *ctx, const struct xg_packet *packet,
					  struct xg_counters *counters, u32 kind, u64 now, u32 cause)
{
	struct xg_event *event;

	if (XG_PROBE)
		return;
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		counters->events_lost++;
		return;
	}
	event->at = now;
	event->kind = kind;
	event->ifindex = ctx->ingress_ifindex;
	__builtin_memcpy(event->source, &packet->source, sizeof(event->source));
	event->port = bpf_ntohs(packet->destination_port);
	event->ip_version = packet->ip_version;
	event->cause = cause;
	event->zero = 0;
	events.ringbuf_submit(event, 0);
}

#endif
