/* SPDX-License-Identifier: GPL-2.0 */
/* The rates of the SYN guard's policy, by source prefix and in common. */
#ifndef XG_STAGES_LIMITS_H
#define XG_STAGES_LIMITS_H

#include "../algo/hash.h"
#include "../algo/token_bucket.h"
#include "../maps.h"
#include "../verdict.h"
#include "../verifier.h"

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
	place = xg_within(hash ^ hash >> 32, XG_BUCKETS);
	return buckets.lookup(&place);
}

/*
 * A SYN left to the kernel because nobody listens on its port or no cookie can be made: allowed within its prefix's
 * rate and, for a closed port, within the rate of the RSTs it causes.
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

#endif
