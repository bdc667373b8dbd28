/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counts completed handshakes by remote address: the proof that a source receives what is sent to it. Once a
 * connection, not once a packet, on the tracepoint sock:inet_sock_set_state.
 */
#include <linux/in.h>
#include <linux/types.h>

#include "netns.h"

#define XG_REMOTES 16384

struct xg_remote {
	u8 address[16]; /* IPv4 as IPv4-mapped IPv6 */
	u32 netns;      /* inode number of the namespace */
	u32 zero;
};

/* Remote address -> handshakes. Program writes, the controller reads. Full: the least recently used entry goes. */
BPF_TABLE("lru_hash", struct xg_remote, u64, handshakes, XG_REMOTES);

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	struct xg_remote remote = {};
	u64 one = 1, *count;

	if (args->protocol != IPPROTO_TCP || args->oldstate != BPF_TCP_SYN_RECV ||
	    args->newstate != BPF_TCP_ESTABLISHED)
		return 0;
	remote.netns = xg_netns_of(args->skaddr);
	__builtin_memcpy(remote.address, args->daddr_v6, sizeof(remote.address));
	count = handshakes.lookup(&remote);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		handshakes.update(&remote, &one);
	return 0;
}
