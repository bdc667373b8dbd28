/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counts completed handshakes by remote address: the proof that a source receives what is sent to it. Once a
 * connection, not once a packet, on the tracepoint sock:inet_sock_set_state.
 */
#include <linux/types.h>

#if !defined(XG_SOCK_NET) || !defined(XG_NET_NUMBER)
#error "XG_SOCK_NET, XG_NET_NUMBER: places in struct sock and struct net, octets"
#endif

#define XG_TCP_ESTABLISHED 1 /* include/net/tcp_states.h */
#define XG_TCP_SYN_RECV 3
#define XG_TCP 6
#define XG_SOURCES 16384

struct xg_remote {
	u8 address[16]; /* IPv4 as IPv4-mapped IPv6 */
	u32 netns;      /* inode number of the namespace */
	u32 zero;
};

/* Remote address -> handshakes. Program writes, the controller reads. Full: the least recently used entry goes. */
BPF_TABLE("lru_hash", struct xg_remote, u64, handshakes, XG_SOURCES);

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	struct xg_remote remote = {};
	u64 one = 1, *count;
	void *net = NULL;

	if (args->protocol != XG_TCP || args->oldstate != XG_TCP_SYN_RECV || args->newstate != XG_TCP_ESTABLISHED)
		return 0;
	bpf_probe_read_kernel(&net, sizeof(net), (void *)args->skaddr + XG_SOCK_NET);
	bpf_probe_read_kernel(&remote.netns, sizeof(remote.netns), net + XG_NET_NUMBER);
	__builtin_memcpy(remote.address, args->daddr_v6, sizeof(remote.address));
	count = handshakes.lookup(&remote);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		handshakes.update(&remote, &one);
	return 0;
}
