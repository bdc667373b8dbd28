/* SPDX-License-Identifier: GPL-2.0 */
/* The hash of a tuple, keyed by the instance's secrets so that nobody outside can choose tuples that collide. */
#ifndef XG_STAGES_TUPLE_H
#define XG_STAGES_TUPLE_H

#include "../algo/hash.h"
#include "../packet.h"

static __always_inline u64 xg_tuple_hash(const struct xg_packet *packet, const u64 *secrets)
{
	u64 ports = (u64)packet->source_port << 32 | packet->destination_port;

	if (packet->ip_version == 4)
		return xg_hash_word(secrets[0], (u64)packet->source.ipv4 << 32 | packet->destination.ipv4) +
		       xg_hash_word(secrets[1], ports);
	return xg_hash_word(secrets[0], packet->source.halves[0]) + xg_hash_word(secrets[1], packet->source.halves[1]) +
	       xg_hash_word(secrets[2], packet->destination.halves[0]) +
	       xg_hash_word(secrets[3], packet->destination.halves[1]) + xg_hash_word(secrets[4], ports);
}

#endif
