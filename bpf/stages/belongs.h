/* SPDX-License-Identifier: GPL-2.0 */
/* Whether a packet belongs to something that this host opened: a socket, or an exchange that it began. */
#ifndef XG_STAGES_BELONGS_H
#define XG_STAGES_BELONGS_H

#include "above.h"
#include "cookie.h"
#include "count.h"
#include "flight.h"
#include "reply_to.h"
#include "socket.h"

/*
 * Whether a segment that meets a listener completes a handshake by SYN cookie, or follows closely in the same first
 * flight: there is no socket yet. Who answered the SYN had admitted it.
 */
static __always_inline bool xg_completes_cookie(struct xdp_md *ctx, struct bpf_sock *sock,
						const struct xg_packet *packet, const u64 *secrets, u64 now)
{
	/* Another number than the guard's, which must count the handshake itself. */
	u64 hash = xg_tuple_hash(packet, secrets) ^ 1;
	struct xg_flight *flight = xg_flight_of(hash);

	if (xg_flight_proved(flight, hash, now))
		return true;
	if ((packet->tcp_flags & (XG_SYN | XG_RST | XG_ACK)) != XG_ACK || xg_check_cookie(ctx, sock, packet))
		return false;
	xg_flight_begins(flight, hash, now);
	return true;
}

/* A SYN belongs to nothing but a socket that waits for one: a listener alone admits nobody. */
static __always_inline bool xg_tcp_belongs(struct xdp_md *ctx, const struct xg_packet *packet, bool quoted,
					   const u64 *secrets, u64 now)
{
	struct bpf_sock *sock = xg_socket(ctx, packet, false);
	bool syn = xg_initial_syn(packet), belongs = false;

	if (sock) {
		if (sock->state == BPF_TCP_LISTEN)
			belongs = !syn && !quoted && xg_completes_cookie(ctx, sock, packet, secrets, now);
		else
			belongs = !syn || sock->state != BPF_TCP_TIME_WAIT;
		bpf_sk_release(sock);
	}
	/* Connections of others behind this host, and sockets of a VLAN or VRF, which are not found from here. */
	return belongs || (!syn && xg_is_reply(packet, now));
}

/* To any socket of that port; in strict mode only what answers. */
static __always_inline bool xg_udp_belongs(struct xdp_md *ctx, const struct xg_packet *packet, bool strict, u64 now)
{
	struct bpf_sock *sock;

	if (!strict) {
		sock = xg_socket(ctx, packet, true);
		if (sock) {
			bpf_sk_release(sock);
			return true;
		}
		/* Of sockets that are bound to a device, the kernel finds only those of this interface from here. */
		if (xg_is_above(XG_ABOVE_PORT, bpf_ntohs(packet->destination_port)))
			return true;
	}
	return xg_is_reply(packet, now);
}

/* `quoted`: in an error about a packet of this host, as its answer would be. */
static __always_inline bool xg_belongs(struct xdp_md *ctx, const struct xg_packet *packet, bool quoted,
				       const struct xg_settings *settings, u64 now)
{
	if (packet->protocol == IPPROTO_TCP)
		return xg_tcp_belongs(ctx, packet, quoted, settings->secrets, now);
	if (packet->protocol == IPPROTO_UDP)
		return xg_udp_belongs(ctx, packet, settings->default_strict, now);
	return xg_is_reply(packet, now);
}

#endif
