/* SPDX-License-Identifier: GPL-2.0 */
/* The ends of a socket as tcp:tcp_probe tells them: for each segment that an established connection receives. */
#ifndef XG_TCP_TCP_PROBE_H
#define XG_TCP_TCP_PROBE_H

#include "switches.h"
#include "ends.h"

#if !defined(XG_PROBE_SOCKET) || !defined(XG_SOCK_COOKIE)
#error "XG_PROBE_SOCKET, XG_SOCK_COOKIE: whether the tracepoint tells the socket (skaddr), place in struct sock"
#endif

/* What a socket is known by here. Kernels that do not tell where it is tell its cookie, but not its namespace. */
#if XG_PROBE_SOCKET
#define XG_TCP_PROBE_KEY_OF(args) ((u64)(args)->skaddr)
#define XG_TCP_PROBE_NETNS_OF(args) xg_netns_of((args)->skaddr)
#define xg_key_of(sk) ((u64)(sk))
#define xg_tcp_probe_chosen(args) xg_chosen((args)->skaddr)
#else
#define XG_TCP_PROBE_KEY_OF(args) ((args)->sock_cookie)
#define XG_TCP_PROBE_NETNS_OF(args) 0
#define xg_tcp_probe_chosen(args) 1
static __always_inline u64 xg_key_of(const void *sk)
{
	u64 cookie = 0;

	XG_READ_KERNEL(cookie, sk + XG_SOCK_COOKIE);
	return cookie;
}
#endif

/*
 * saddr and daddr are a struct sockaddr_in, or a struct sockaddr_in6; both begin with the family. They are copied by a
 * helper: see verifier.h.
 */
#define XG_TCP_PROBE_ENDS_OF(args)                                                                                     \
	({                                                                                                             \
		struct xg_ends _ends = {};                                                                             \
		u16 _family = 0;                                                                                       \
		xg_read_kernel(&_family, sizeof(_family), (args)->saddr);                                              \
		if (_family == XG_AF_INET) {                                                                           \
			*(u32 *)(_ends.local + 8) = *(u32 *)(_ends.remote + 8) = XG_MAPPED;                            \
			xg_read_kernel(_ends.local + 12, 4, (args)->saddr + 4);                                        \
			xg_read_kernel(_ends.remote + 12, 4, (args)->daddr + 4);                                       \
		} else {                                                                                               \
			xg_read_kernel(_ends.local, sizeof(_ends.local), (args)->saddr + 8);                           \
			xg_read_kernel(_ends.remote, sizeof(_ends.remote), (args)->daddr + 8);                         \
		}                                                                                                      \
		_ends.local_port = (args)->sport;                                                                      \
		_ends.remote_port = (args)->dport;                                                                     \
		_ends.netns = XG_TCP_PROBE_NETNS_OF(args);                                                             \
		_ends;                                                                                                 \
	})

#endif
