/* SPDX-License-Identifier: GPL-2.0 */
/* The ends of a socket as tcp:tcp_probe tells them: for each segment that an established connection receives. */
#ifndef XG_TCP_PROBE_H
#define XG_TCP_PROBE_H

#include "config.h"
#include "socket.h"

#define XG_AF_INET 2 /* linux/socket.h */

/* saddr and daddr are a struct sockaddr_in, or a struct sockaddr_in6. */
#define XG_PROBE_ENDS_OF(args)                                                                                         \
	({                                                                                                             \
		struct xg_ends _ends = {};                                                                             \
		if ((args)->family == XG_AF_INET) {                                                                    \
			*(u32 *)(_ends.local + 8) = *(u32 *)(_ends.remote + 8) = XG_MAPPED;                            \
			__builtin_memcpy(_ends.local + 12, (args)->saddr + 4, 4);                                      \
			__builtin_memcpy(_ends.remote + 12, (args)->daddr + 4, 4);                                     \
		} else {                                                                                               \
			__builtin_memcpy(_ends.local, (args)->saddr + 8, sizeof(_ends.local));                         \
			__builtin_memcpy(_ends.remote, (args)->daddr + 8, sizeof(_ends.remote));                       \
		}                                                                                                      \
		_ends.local_port = (args)->sport;                                                                      \
		_ends.remote_port = (args)->dport;                                                                     \
		_ends.netns = xg_netns_of((args)->skaddr);                                                             \
		_ends;                                                                                                 \
	})

#endif
