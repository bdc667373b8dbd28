/* SPDX-License-Identifier: GPL-2.0 */
/*
 * First flights. Only the ACK with the number after the SYN's carries a cookie that can be checked, but a client sends
 * more at once: the rest of a request, or a FIN, arrives in the same poll, before the kernel has created the socket. So
 * each CPU remembers for a second the tuples whose handshake it saw proved. Their segments pass, and no handshake is
 * counted twice.
 */
#ifndef XG_STAGES_FLIGHT_H
#define XG_STAGES_FLIGHT_H

#include "../maps.h"
#include "tuple.h"

#define XG_FLIGHT_TIME 1000000000ull /* ns */

static __always_inline struct xg_flight *xg_flight_of(u64 hash)
{
	u32 place = xg_within(hash ^ hash >> 32, XG_FLIGHTS);

	return flights.lookup(&place);
}

/* Whether the handshake of that tuple was proved within the last second. */
static __always_inline bool xg_flight_proved(const struct xg_flight *flight, u64 hash, u64 now)
{
	return flight && flight->tuple == hash && now - flight->at < XG_FLIGHT_TIME;
}

/* It is proved now. */
static __always_inline void xg_flight_begins(struct xg_flight *flight, u64 hash, u64 now)
{
	if (!flight)
		return;
	flight->tuple = hash;
	flight->at = now;
}

#endif
