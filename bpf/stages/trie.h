/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The longest prefix in force, from any of the tries.
 *
 * A trie returns the longest prefix, which may have expired while a shorter one around it is still in force. So after
 * an expired result the next shorter prefix is looked up, until one is in force or none is left.
 *
 * bcc replaces map methods textually, so a map cannot be an argument. A constant that names it can: the compiler leaves
 * one lookup of the switch, and one loop for each constant.
 */
#ifndef XG_STAGES_TRIE_H
#define XG_STAGES_TRIE_H

#include "../maps.h"
#include "rule.h"

enum xg_trie {
	XG_TRIE_ALLOW4,
	XG_TRIE_ALLOW6,
	XG_TRIE_DENY4,
	XG_TRIE_DENY6,
	XG_TRIE_SHADOW4,
	XG_TRIE_SHADOW6,
};

#define XG_ADDRESS_BITS4 32
#define XG_ADDRESS_BITS6 128

static __always_inline bool xg_trie_is_ipv6(enum xg_trie trie)
{
	return trie == XG_TRIE_ALLOW6 || trie == XG_TRIE_DENY6 || trie == XG_TRIE_SHADOW6;
}

/* The longest prefix, of at most the key's length. An IPv4 trie reads no more of the key than struct xg_prefix4. */
static __always_inline struct xg_rule *xg_trie_lookup(enum xg_trie trie, struct xg_prefix6 *key)
{
	struct xg_prefix4 *key4 = (struct xg_prefix4 *)key;

	switch (trie) {
	case XG_TRIE_ALLOW4:
		return allow4.lookup(key4);
	case XG_TRIE_ALLOW6:
		return allow6.lookup(key);
	case XG_TRIE_DENY4:
		return deny4_prefix.lookup(key4);
	case XG_TRIE_DENY6:
		return deny6_prefix.lookup(key);
	case XG_TRIE_SHADOW4:
		return shadow4.lookup(key4);
	case XG_TRIE_SHADOW6:
		return shadow6.lookup(key);
	}
	return NULL;
}

static __always_inline bool xg_trie_live(enum xg_trie trie, const struct xg_rule *rule)
{
	if (trie == XG_TRIE_SHADOW4 || trie == XG_TRIE_SHADOW6)
		return xg_rule_in_time(rule);
	return xg_rule_live(rule);
}

/* Sets `length` to that of the next shorter prefix to look up. Returns false if there is none. */
static __always_inline bool xg_shorten(u32 *length, const struct xg_rule *expired)
{
	u32 its = expired->prefix_length & ~XG_RULE_NEEDED;

	if (!its)
		return false;
	*length = its - 1;
	return true;
}

/* The rule of the longest prefix in force that contains the address, or NULL. `trie` is a constant. */
static __always_inline struct xg_rule *xg_trie_find(enum xg_trie trie, const union xg_address *address)
{
	u32 bits = xg_trie_is_ipv6(trie) ? XG_ADDRESS_BITS6 : XG_ADDRESS_BITS4;
	struct xg_prefix6 key;
	struct xg_rule *rule;
	u32 i;

	key.length = bits;
	__builtin_memcpy(key.address, address, bits / 8);
	for (i = 0; i <= bits; i++) {
		rule = xg_trie_lookup(trie, &key);
		if (!rule || xg_trie_live(trie, rule))
			return rule;
		if (!xg_shorten(&key.length, rule))
			break;
	}
	return NULL;
}

#endif
