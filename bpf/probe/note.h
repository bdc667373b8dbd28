/* SPDX-License-Identifier: GPL-2.0 */
/* The probe's notes and questions about a packet once its headers are sound: see probe.h. */
#ifndef XG_PROBE_NOTE_H
#define XG_PROBE_NOTE_H

#include "../clock.h"
#include "../maps.h"
#include "../packet.h"
#include "probe.h"

#if XG_PROBE

static __always_inline void xg_probe_packet(const struct xg_packet *packet, u32 protocol, bool segment)
{
	struct xg_probe_answer *answer = xg_probe_this_answer();

	if (!answer)
		return;
	answer->ip_version = packet->ip_version;
	answer->protocol = protocol;
	answer->segment = segment;
	answer->tcp_flags = packet->tcp_flags;
	__builtin_memcpy(answer->source, &packet->source, sizeof(answer->source));
}

/* As xg_count_source() would have it after this packet, without counting it. */
static __always_inline bool xg_probe_tries_many(const struct xg_source_counts *counts, const struct xg_packet *packet,
						u64 remembered, u64 many)
{
	u64 bit = 1ull << (bpf_ntohs(packet->destination_port) & 63), number;
	bool syn = (packet->tcp_flags & (XG_SYN | XG_ACK)) == XG_SYN;

	/* Ports tried too long ago are forgotten, and a first port is not many. */
	if (!counts || xg_now_coarse() - counts->ports_since >= remembered)
		return false;
	number = counts->ports_number + (syn && !(counts->ports & bit));
	return number >= many;
}

/* A source's rows are kept by CPU; a packet may come in on any of them. */
static __always_inline bool xg_probe_suspect(const struct xg_packet *packet, u64 remembered, u64 many)
{
	struct xg_source4 key4 = { .address = packet->source.ipv4 };
	struct xg_source6 key6 = {};
	struct xg_source_counts *counts;
	bool suspect = false;
	u32 cpu;

	__builtin_memcpy(key6.address, &packet->source, sizeof(key6.address));
	for (cpu = 0; cpu < XG_MAX_CPUS; cpu++) {
		key4.cpu = cpu;
		key6.cpu = cpu;
		counts = packet->ip_version == 4 ? sources4.lookup(&key4) : sources6.lookup(&key6);
		suspect |= xg_probe_tries_many(counts, packet, remembered, many);
	}
	return suspect;
}

#else

static __always_inline void xg_probe_packet(const struct xg_packet *packet, u32 protocol, bool segment)
{
}

static __always_inline bool xg_probe_suspect(const struct xg_packet *packet, u64 remembered, u64 many)
{
	return false;
}

#endif

#endif
