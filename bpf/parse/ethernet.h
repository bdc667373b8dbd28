/* SPDX-License-Identifier: GPL-2.0 */
/* Ethernet, and up to two VLAN tags (802.1Q, 802.1ad). */
#ifndef XG_PARSE_ETHERNET_H
#define XG_PARSE_ETHERNET_H

#include <linux/if_ether.h>

#include "../verdict.h"

#define XG_MAX_VLAN_TAGS 2

struct xg_vlan_tag {
	__be16 control;
	__be16 type; /* of what follows */
};

static __always_inline bool xg_is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* Moves the cursor after the tags and stores the EtherType found there (network byte order). */
static __always_inline u32 xg_parse_ethernet(struct xg_cursor *cursor, __be16 *type)
{
	struct ethhdr *ethernet = cursor->at;
	struct xg_vlan_tag *tag;
	int i;

	if ((void *)(ethernet + 1) > cursor->end)
		return XG_REASON_malformed;
	*type = ethernet->h_proto;
	cursor->at = ethernet + 1;
	cursor->left -= sizeof(*ethernet);

#pragma unroll
	for (i = 0; i < XG_MAX_VLAN_TAGS; i++) {
		if (!xg_is_vlan(*type))
			break;
		tag = cursor->at;
		if ((void *)(tag + 1) > cursor->end)
			return XG_REASON_malformed;
		*type = tag->type;
		cursor->at = tag + 1;
		cursor->left -= sizeof(*tag);
	}
	/*
	 * The kernel strips any number of priority tags (VLAN 0, __netif_receive_skb_core()): a third one that passed
	 * as unknown would bypass every list.
	 */
	return xg_is_vlan(*type) ? XG_REASON_malformed : XG_NEXT;
}

#endif
