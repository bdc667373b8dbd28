/* SPDX-License-Identifier: GPL-2.0 */
/*
 * On a veth in native mode the kernel silently discards what a program sends back while the peer has no program of its
 * own (veth_xdp_xmit(): the ring it would go into is never read). So an active guard checks the peer once a second, in
 * the kernel's own structs, and sends no answers while none would arrive. This needs no controller.
 */
#ifndef XG_STAGES_PEER_H
#define XG_STAGES_PEER_H

#include "../maps.h"
#include "../read.h"

#define XG_PEER_INTERVAL 1000000000ull /* ns */
#define XG_MODE_DRIVER 1               /* XDP_MODE_DRV, include/linux/netdevice.h */

#if XG_VETH
static __always_inline u64 xg_kernel_word(u64 at)
{
	u64 word = 0;

	xg_read_kernel(&word, sizeof(word), (void *)at);
	return word;
}

/* Whether a device carries a program in driver mode, its own or through a link: struct bpf_xdp_entity. */
static __always_inline bool xg_has_program(u64 device)
{
	u64 entity = device + XG_DEV_PROGRAMS + XG_MODE_DRIVER * 2 * sizeof(u64);

	return xg_kernel_word(entity) || xg_kernel_word(entity + sizeof(u64));
}

/* Whether an answer arrives. In generic mode it is transmitted like any other packet. */
static __always_inline bool xg_answers_arrive(struct xdp_md *ctx)
{
	u64 device = xg_kernel_word(xg_kernel_word((u64)(void *)ctx + XG_BUFF_RXQ) + XG_RXQ_DEV);
	u64 peer;

	if (!device || !xg_has_program(device))
		return true;
	/* The first field of struct veth_priv, drivers/net/veth.c. */
	peer = xg_kernel_word(device + XG_DEV_PRIVATE);
	return peer && xg_has_program(peer);
}
#endif

/* Checks the peer when a check is due, and records the result. */
static __always_inline void xg_look_at_peer(struct xdp_md *ctx, struct xg_guard *guard, u64 now)
{
#if XG_VETH
	if (XG_PROBE || now - guard->peer_at < XG_PEER_INTERVAL)
		return;
	guard->peer_at = now;
	/* A state set by the controller may have another reason. */
	if (guard->mute == XG_MUTE_TOLD)
		return;
	guard->mute = xg_answers_arrive(ctx) ? XG_MUTE_NOT : XG_MUTE_FOUND;
#endif
}

#endif
