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
/* Of what was sent to a group: whoever answers a search of SSDP does so within 5 s (UPnP Device Architecture 2.0, MX).
 */
#define XG_SENT_TIME_GROUP 10000000000ll /* ns */

/* Signed: another CPU may have read the clock later. */
static __always_inline bool xg_is_recent(const u64 *at, u64 now, s64 time)
{
	return at && (s64)(now - *at) < time;
}

/* `packet`: with the remote end as its source; of an ICMP echo with port 0 there and the identifier as destination. */
static __always_inline bool xg_is_reply(const struct xg_packet *packet, u64 now)
{
	struct xg_sent_key key = {
		.remote_port = packet->source_port,
		.local_port = packet->destination_port,
		.protocol = packet->protocol,
		.ip_version = packet->ip_version,
	};
	bool tcp = packet->protocol == IPPROTO_TCP;

	if (packet->ip_version == 4)
		*(__be32 *)key.address = packet->source.ipv4;
	else
		__builtin_memcpy(key.address, &packet->source, sizeof(key.address));
	if (xg_is_recent(xg_sent_at(xg_sent_map_of(&key, false), &key), now, tcp ? XG_SENT_TIME_TCP : XG_SENT_TIME))
		return true;
	if (tcp) /* the handshake may not be complete */
		return xg_is_recent(xg_sent_at(xg_sent_map_of(&key, true), &key), now, XG_SENT_TIME);
	if (packet->protocol != IPPROTO_UDP)
		return false;
	xg_sent_to_group(&key);
	return xg_is_recent(xg_sent_at(xg_sent_map_of(&key, false), &key), now, XG_SENT_TIME_GROUP);
}

#endif
