/* SPDX-License-Identifier: GPL-2.0 */
/* Both ends of a socket, as a tracepoint or the kernel's struct sock has them, and whether the socket is wanted. */
#ifndef XG_TCP_ENDS_H
#define XG_TCP_ENDS_H

#include "../families.h"
#include "netns.h"
#include "switches.h"

/* IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2); ports in host byte order. */
struct xg_ends {
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u32 netns; /* inode number of the network namespace */
};

/* The first bytes of an IPv4-mapped address, as a little-endian number. */
#define XG_MAPPED 0xffff0000u

static __always_inline int xg_is_ipv4(const struct xg_ends *ends)
{
	const u32 *words = (const u32 *)ends->remote;
	const u32 *own = (const u32 *)ends->local;

	/* A listener on any address has no remote one that would tell. */
	return (!words[0] && !words[1] && words[2] == XG_MAPPED) || (!own[0] && !own[1] && own[2] == XG_MAPPED);
}

static __always_inline int xg_wanted(const struct xg_ends *ends)
{
	const u64 *local = (const u64 *)ends->local, *remote = (const u64 *)ends->remote;

	if (XG_NETNS && ends->netns != XG_NETNS)
		return 0;
	if (XG_FAMILY && xg_is_ipv4(ends) != (XG_FAMILY == 4))
		return 0;
	if ((u32)(ends->local_port - XG_LOCAL_PORT_FIRST) > XG_LOCAL_PORT_LAST - XG_LOCAL_PORT_FIRST ||
	    (u32)(ends->remote_port - XG_REMOTE_PORT_FIRST) > XG_REMOTE_PORT_LAST - XG_REMOTE_PORT_FIRST)
		return 0;
	if ((local[0] & XG_LOCAL_MASK_HIGH) != XG_LOCAL_HIGH || (local[1] & XG_LOCAL_MASK_LOW) != XG_LOCAL_LOW)
		return 0;
	return (remote[0] & XG_REMOTE_MASK_HIGH) == XG_REMOTE_HIGH && (remote[1] & XG_REMOTE_MASK_LOW) == XG_REMOTE_LOW;
}

/* Of a tracepoint whose fields are saddr_v6, daddr_v6, sport, dport, skaddr. */
#define XG_ENDS_OF(args)                                                                                               \
	({                                                                                                             \
		struct xg_ends _ends = {};                                                                             \
		__builtin_memcpy(_ends.local, (args)->saddr_v6, sizeof(_ends.local));                                  \
		__builtin_memcpy(_ends.remote, (args)->daddr_v6, sizeof(_ends.remote));                                \
		_ends.local_port = (args)->sport;                                                                      \
		_ends.remote_port = (args)->dport;                                                                     \
		_ends.netns = xg_netns_of((args)->skaddr);                                                             \
		_ends;                                                                                                 \
	})

/* Both ends, read from struct sock. */
static __always_inline void xg_ends_of(const void *sk, struct xg_ends *ends)
{
	u16 family = 0;

	XG_READ_KERNEL(family, sk + XG_SOCK_FAMILY);
	if (family == XG_AF_INET) {
		*(u32 *)(ends->local + 8) = *(u32 *)(ends->remote + 8) = XG_MAPPED;
		xg_read_kernel(ends->local + 12, 4, sk + XG_SOCK_LOCAL4);
		xg_read_kernel(ends->remote + 12, 4, sk + XG_SOCK_REMOTE4);
	} else {
		XG_READ_KERNEL(ends->local, sk + XG_SOCK_LOCAL6);
		XG_READ_KERNEL(ends->remote, sk + XG_SOCK_REMOTE6);
	}
	XG_READ_KERNEL(ends->local_port, sk + XG_SOCK_LOCAL_PORT);
	XG_READ_KERNEL(ends->remote_port, sk + XG_SOCK_REMOTE_PORT);
	ends->local_port = __builtin_bswap16(ends->local_port);
	ends->remote_port = __builtin_bswap16(ends->remote_port);
	ends->netns = xg_netns_of(sk);
}

#endif
