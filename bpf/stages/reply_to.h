/* SPDX-License-Identifier: GPL-2.0 */
/* Whether a packet answers what this host, or somebody behind it, has sent: see egress.c. */
#ifndef XG_STAGES_REPLY_TO_H
#define XG_STAGES_REPLY_TO_H

#include <linux/in.h>

#include "../packet.h"
#include "../sent.h"

/* How long an answer is waited for: as long as address translators keep a mapping. */
#define XG_SENT_TIME 300000000000ll      /* ns; RFC 4787, REQ-5: 5 minutes for UDP */
#define XG_SENT_TIME_TCP 7440000000000ll /* ns; RFC 5382, REQ-5: 2 hours and 4 minutes */

/* `packet`: with the remote end as its source; of an ICMP echo with port 0 there and the identifier as destination. */
static __always_inline bool xg_is_reply(const struct xg_packet *packet, u64 now)
{
	struct xg_sent_key key = {
		.remote_port = packet->source_port,
		.local_port = packet->destination_port,
		.protocol = packet->protocol,
		.ip_version = packet->ip_version,
	};
	u64 *at;

	if (packet->ip_version == 4)
		*(__be32 *)key.address = packet->source.ipv4;
	else
		__builtin_memcpy(key.address, &packet->source, sizeof(key.address));
	at = sent.lookup(&key);
	/* Signed: another CPU may have read the clock later. */
	return at && (s64)(now - *at) < (packet->protocol == IPPROTO_TCP ? XG_SENT_TIME_TCP : XG_SENT_TIME);
}

#endif
