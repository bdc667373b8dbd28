/* SPDX-License-Identifier: GPL-2.0 */
/* Closed destination ports: one bit per port answers for nearly every packet, a table for the rest. */
#ifndef XG_STAGES_PORTS_H
#define XG_STAGES_PORTS_H

#include <linux/in.h>

#include "../verdict.h"
#include "rule.h"

static __always_inline u32 xg_closed_port(const struct xg_packet *packet, const struct xg_settings *settings)
{
	struct xg_port key = {
		.port = bpf_ntohs(packet->destination_port),
		.protocol = packet->protocol,
	};
	struct xg_rule *rule;
	u64 bits;

	if (!packet->has_ports)
		return XG_NEXT;
	bits = settings->closed_ports[packet->protocol == IPPROTO_UDP][key.port >> 6];
	if (!((bits >> (key.port & 63)) & 1))
		return XG_NEXT;
	rule = ports.lookup(&key);
	if (!rule || !xg_rule_live(rule))
		return XG_NEXT;
	xg_rule_hit(rule->slot, packet);
	return XG_REASON_closed_port;
}

#endif
