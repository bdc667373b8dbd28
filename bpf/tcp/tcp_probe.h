/* SPDX-License-Identifier: GPL-2.0 */
/* The ends of a socket as tcp:tcp_probe tells them: for each segment that an established connection receives. */
#ifndef XG_TCP_TCP_PROBE_H
#define XG_TCP_TCP_PROBE_H

#include "switches.h"
#include "ends.h"

#if !defined(XG_PROBE_SOCKET) || !defined(XG_SOCK_COOKIE)
#error "XG_PROBE_SOCKET, XG_SOCK_COOKIE: whether the tracepoint tells the socket (skaddr), place in struct sock"
#endif

#if XG_PROBE_SOCKET
#define XG_TCP_PROBE_SOCKET_OF(args) ((const void *)(args)->skaddr)
#else
/* Older kernels tell only the socket's cookie: a program on the raw tracepoint, which gets the socket, keeps it. */

/* [0] -> the socket of the event that this CPU handles, or handled last. */
BPF_TABLE("percpu_array", u32, u64, probed, 1);
/* Cookie -> its socket, for as long as there are events with this cookie. Full: the least recently used entry goes. */
BPF_TABLE("lru_hash", u64, u64, of_cookie, 16384);

static __always_inline u64 xg_cookie_of(u64 sk)
{
	u64 cookie = 0;

	XG_READ_KERNEL(cookie, sk + XG_SOCK_COOKIE);
	return cookie;
}

int xg_probe_first(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	u64 sk = ctx->args[0], cookie = xg_cookie_of(sk), *place = probed.lookup(&zero);

	if (place)
		*place = sk;
	if (cookie && !of_cookie.lookup(&cookie))
		of_cookie.update(&cookie, &sk);
	return 0;
}

/*
 * NULL if it is not known yet. The event itself gives a new socket its cookie, and where something else used the
 * tracepoint before, the program above runs second: then the first event of a connection has none.
 */
static __always_inline const void *xg_probed(u64 cookie)
{
	u32 zero = 0;
	u64 *place = probed.lookup(&zero);

	if (!place || xg_cookie_of(*place) != cookie)
		place = of_cookie.lookup(&cookie);
	return place ? (const void *)*place : NULL;
}
#define XG_TCP_PROBE_SOCKET_OF(args) xg_probed((args)->sock_cookie)
#endif

/*
 * saddr and daddr are a struct sockaddr_in, or a struct sockaddr_in6; both begin with the family. They are copied by a
 * helper: see verifier.h.
 */
#define XG_TCP_PROBE_ENDS_OF(args, sk)                                                                                 \
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
		_ends.netns = xg_netns_of(sk);                                                                         \
		_ends;                                                                                                 \
	})

#endif
