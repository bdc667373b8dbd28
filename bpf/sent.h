/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What left through the interfaces: written by the program at their egress (egress.c), read by the default.
 *
 * Three maps, so that one kind of traffic never evicts another: neither do this host's own questions evict connections
 * that are idle, nor does a flood from outside, which a service answers, evict either.
 */
#ifndef XG_SENT_H
#define XG_SENT_H

#include <linux/in.h>

#include "layouts/default.h"

#define XG_SENT_ENTRIES 65536
#define XG_SERVED_ENTRIES 16384
/*
 * UDP ports from here on are taken for clients' own. Linux gives out 32768 to 60999 (ip_local_port_range), and address
 * translators keep what a client has chosen. Below, a service may answer whoever asks it.
 */
#define XG_SENT_CLIENTS 32768

/*
 * Remote end and local port -> when something was last sent there, coarse monotonic, ns. The program at egress writes,
 * the controller writes what connection tracking knows, the default reads. Full: the least recently used entry is
 * evicted, and what answers it belongs to nothing until the next packet is sent.
 *
 * connections: TCP whose socket the default does not find. sent: UDP of clients, pings, other protocols. served: UDP
 * of services, and SYN-ACKs of connections whose handshake is not complete.
 */
BPF_TABLE_PINNED("lru_hash", struct xg_sent_key, u64, connections, XG_SENT_ENTRIES, XG_PINS "/connections");
BPF_TABLE_PINNED("lru_hash", struct xg_sent_key, u64, sent, XG_SENT_ENTRIES, XG_PINS "/sent");
BPF_TABLE_PINNED("lru_hash", struct xg_sent_key, u64, served, XG_SERVED_ENTRIES, XG_PINS "/served");

enum xg_sent_map {
	XG_SENT_CONNECTIONS,
	XG_SENT_SENT,
	XG_SENT_SERVED,
};

/* Where a packet is remembered. `answer`: it is a SYN-ACK. */
static __always_inline enum xg_sent_map xg_sent_map_of(const struct xg_sent_key *key, bool answer)
{
	if (key->protocol == IPPROTO_TCP)
		return answer ? XG_SENT_SERVED : XG_SENT_CONNECTIONS;
	return key->protocol == IPPROTO_UDP && bpf_ntohs(key->local_port) < XG_SENT_CLIENTS ? XG_SENT_SERVED
											    : XG_SENT_SENT;
}

static __always_inline u64 *xg_sent_at(enum xg_sent_map map, struct xg_sent_key *key)
{
	if (map == XG_SENT_CONNECTIONS)
		return connections.lookup(key);
	return map == XG_SENT_SENT ? sent.lookup(key) : served.lookup(key);
}

/* Makes the key that of the answers to a packet that was sent to a group: they come from any address, and any port. */
static __always_inline void xg_sent_to_group(struct xg_sent_key *key)
{
	__builtin_memset(key->address, 0, sizeof(key->address));
	key->remote_port = 0;
}

#endif
