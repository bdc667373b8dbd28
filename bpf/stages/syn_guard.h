/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SYN guard. Idle, it costs a TCP segment one read; a sample feeds the detector (flood.h). Active, it answers SYNs
 * without keeping state and drops what belongs to no connection. What it does to a packet it decides from the kernel's
 * own socket tables, so that established connections, and those the host opens, are never touched.
 */
#ifndef XG_STAGES_SYN_GUARD_H
#define XG_STAGES_SYN_GUARD_H

#include "../algo/hash.h"
#include "../algo/token_bucket.h"
#include "flood.h"
#include "scan.h"

static __always_inline bool xg_exempt(const struct xg_packet *packet, const struct xg_guard_policy *policy)
{
	u32 port = bpf_ntohs(packet->destination_port);

	return (policy->exempt_ports[port >> 6] >> (port & 63)) & 1;
}

static __always_inline bool xg_observes(const struct xg_guard_policy *policy)
{
	return XG_OBSERVE || policy->mode == XG_GUARD_OBSERVE;
}

/* The buckets of the packet's source prefix. */
static __always_inline struct xg_buckets *xg_buckets_of(const struct xg_packet *packet,
							const struct xg_guard_policy *policy, const u64 *secrets)
{
	u64 hash;
	u32 place;

	if (packet->ip_version == 4) {
		hash = xg_hash_word(secrets[0], packet->source.ipv4 & policy->mask4);
	} else {
		hash = xg_hash_word(secrets[1], packet->source.halves[0] & policy->mask6[0]);
		hash += xg_hash_word(secrets[2], packet->source.halves[1] & policy->mask6[1]);
	}
	place = (hash ^ hash >> 32) & (XG_BUCKETS - 1);
	return buckets.lookup(&place);
}

/*
 * A SYN that the kernel is to see, because nobody listens on its port or no cookie can be made: within its prefix's
 * rate, and for a closed port within that of the RSTs it costs.
 */
static __always_inline u32 xg_limit_syn(struct xg_guard *guard, const struct xg_guard_policy *policy,
					struct xg_buckets *mine, u64 now, bool closed)
{
	if (!xg_bucket_take(&mine->syns, now, &policy->syns))
		return XG_REASON_syn_rate;
	if (closed && !xg_bucket_take(&guard->resets, now, &policy->resets))
		return XG_REASON_syn_rate;
	return XG_NEXT;
}

/* An initial SYN while the guard is active. `sock` is the listener, or NULL. */
static __always_inline u32 xg_guard_syn(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					struct xg_guard *guard, const struct xg_guard_policy *policy,
					const u64 *secrets, u64 now, struct xg_synack *answer)
{
	bool answered = sock && (xg_observes(policy) || xg_answer_syn(ctx, packet, sock, policy, now, answer));
	struct xg_buckets *mine;

	/* The buckets are read only where a rate asks for them: nearly always that is a cache miss. */
	if (answered && !policy->answers.interval)
		return XG_REASON_cookie_sent;
	mine = xg_buckets_of(packet, policy, secrets);
	if (!mine)
		return XG_NEXT;
	if (!answered)
		return xg_limit_syn(guard, policy, mine, now, !sock);
	return xg_bucket_take(&mine->answers, now, &policy->answers) ? XG_REASON_cookie_sent : XG_REASON_syn_rate;
}

/* Any other segment: the ACK that completes a handshake by cookie, or nothing at all. */
static __always_inline u32 xg_guard_segment(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					    struct xg_counters *counters, const struct xg_guard *guard,
					    const struct xg_guard_policy *policy, const u64 *secrets, u64 now)
{
	struct xg_buckets *mine;

	if (!sock || (packet->tcp_flags & (XG_SYN | XG_RST | XG_ACK)) != XG_ACK)
		return XG_REASON_ack_unknown;
	/* Where addresses are translated, the listener found may be a proxy's, which never sees the connection. */
	if (xg_check_cookie(ctx, sock, packet))
		return guard->pass_unknown ? XG_NEXT : XG_REASON_cookie_bad;
	counters->cookies_valid++;
	counters->signs.proved++;
	if (!policy->connections.interval)
		return XG_NEXT;
	mine = xg_buckets_of(packet, policy, secrets);
	return !mine || xg_bucket_take(&mine->connections, now, &policy->connections) ? XG_NEXT : XG_REASON_syn_rate;
}

/* A segment for this host, whose socket is a listener or none. XG_REASON_cookie_sent: `answer` is what to send. */
static __always_inline u32 xg_guard_decide(struct xdp_md *ctx, const struct xg_packet *packet, struct bpf_sock *sock,
					   struct xg_counters *counters, struct xg_guard *guard,
					   const struct xg_guard_policy *policy, const u64 *secrets, u64 now,
					   struct xg_synack *answer)
{
	u32 reason;

	if (!sock && xg_scan_asks(packet, policy)) {
		reason = xg_scan(ctx, packet, counters, guard, now, answer);
		if (reason != XG_NEXT)
			return reason;
	}
	if (!guard->until) {
		xg_watch(ctx, packet, counters, sock, guard, policy, now);
		return XG_NEXT;
	}
	if (xg_initial_syn(packet)) {
		counters->signs.syns++;
		return xg_guard_syn(ctx, packet, sock, guard, policy, secrets, now, answer);
	}
	reason = xg_guard_segment(ctx, packet, sock, counters, guard, policy, secrets, now);
	counters->signs.strangers += reason != XG_NEXT;
	return reason;
}

/*
 * Whether the guard has to see the packet: it is active, or the source is suspect, or the packet is one of the sample
 * by which an idle guard watches. It has been counted, so every so many of its kind are taken.
 */
static __always_inline bool xg_guard_wanted(const struct xg_packet *packet, const struct xg_counters *counters)
{
	u32 zero = 0, mask;
	struct xg_guard *guard;

	if (!xg_is_tcp_segment(packet))
		return false;
	guard = guards.lookup(&zero);
	if (!guard)
		return false;
	mask = (xg_initial_syn(packet) ? XG_SYN_SAMPLE : XG_SEGMENT_SAMPLE) - 1;
	return guard->until || packet->suspect || !(counters->flag_sets[packet->tcp_flags] & mask);
}

/* The packet again, from its headers. False when they are not in the first buffer. */
static __always_inline bool xg_take_over(struct xdp_md *ctx, const struct xg_handover *handover,
					 struct xg_packet *packet)
{
	struct tcphdr *tcp;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	packet->ip_version = handover->ip_version;
	packet->suspect = handover->suspect;
	packet->network_at = handover->network_at;
	packet->transport_at = handover->transport_at;
	ipv4 = xg_network(ctx, packet);
	tcp = xg_transport(ctx, packet);
	if (!ipv4 || !tcp)
		return false;
	ipv6 = (void *)ipv4;
	if (packet->ip_version == 4) {
		packet->source.ipv4 = ipv4->saddr;
		packet->destination.ipv4 = ipv4->daddr;
	} else {
		__builtin_memcpy(&packet->source, &ipv6->saddr, sizeof(packet->source));
		__builtin_memcpy(&packet->destination, &ipv6->daddr, sizeof(packet->destination));
	}
	packet->source_port = tcp->source;
	packet->destination_port = tcp->dest;
	packet->tcp_flags = ((u8 *)tcp)[13];
	return true;
}

/* What becomes of a packet that the guard had to see; `observed`: it does not act on it. */
static __always_inline u32 xg_syn_guard(struct xdp_md *ctx, const struct xg_handover *handover,
					struct xg_counters *counters, const struct xg_settings *settings,
					bool *observed)
{
	u32 zero = 0, reason = XG_NEXT;
	const struct xg_guard_policy *policy = guard_policy.lookup(&zero);
	struct xg_guard *guard = guards.lookup(&zero);
	struct xg_packet packet = {};
	struct xg_synack answer = {};
	struct bpf_sock *sock;
	u64 now = xg_now_coarse();
	bool active, known;

	if (!policy || !guard || policy->mode == XG_GUARD_OFF || !xg_take_over(ctx, handover, &packet) ||
	    xg_exempt(&packet, policy) || !xg_own_frame(ctx, guard))
		return XG_REASON_pass;
	active = xg_flood_goes_on(ctx, &packet, counters, guard, policy, now);
	sock = xg_socket(ctx, &packet);
	/* A socket of this very tuple, in whatever state: the kernel knows best. */
	known = sock && sock->state != XG_TCP_LISTEN;
	if (known)
		counters->signs.proved += active && sock->state == XG_TCP_NEW_SYN_RECV;
	else if ((sock || !xg_may_be_anothers(&packet, guard)) && !xg_forwarded(ctx, &packet))
		reason = xg_guard_decide(ctx, &packet, sock, counters, guard, policy, settings->secrets, now, &answer);
	if (sock)
		bpf_sk_release(sock);
	if (active)
		xg_active_signs(&counters->signs, guard, policy, now);
	*observed = policy->mode == XG_GUARD_OBSERVE;
	if (reason == XG_REASON_cookie_sent && !xg_observes(policy) && !xg_write_frame(ctx, &packet, &answer))
		reason = XG_NEXT;
	return reason == XG_NEXT ? XG_REASON_pass : reason;
}

#endif
