/* SPDX-License-Identifier: GPL-2.0 */
/* The ends of a socket as tcp:tcp_probe tells them: for each segment that an established connection receives. */
#ifndef XG_TCP_PROBE_H
#define XG_TCP_PROBE_H

#include "config.h"
#include "socket.h"

#define XG_AF_INET 2 /* linux/socket.h */

/*
 * saddr and daddr are a struct sockaddr_in, or a struct sockaddr_in6. They are copied by a helper: of loads in two
 * branches clang makes one, at an address that it works out before, and the verifier takes no such address.
 */
#define XG_PROBE_ENDS_OF(args)                                                                                         \
	({                                                                                                             \
		struct xg_ends _ends = {};                                                                             \
		if ((args)->family == XG_AF_INET) {                                                                    \
			*(u32 *)(_ends.local + 8) = *(u32 *)(_ends.remote + 8) = XG_MAPPED;                            \
			bpf_probe_read_kernel(_ends.local + 12, 4, (args)->saddr + 4);                                 \
			bpf_probe_read_kernel(_ends.remote + 12, 4, (args)->daddr + 4);                                \
		} else {                                                                                               \
			bpf_probe_read_kernel(_ends.local, sizeof(_ends.local), (args)->saddr + 8);                    \
			bpf_probe_read_kernel(_ends.remote, sizeof(_ends.remote), (args)->daddr + 8);                  \
		}                                                                                                      \
		_ends.local_port = (args)->sport;                                                                      \
		_ends.remote_port = (args)->dport;                                                                     \
		_ends.netns = xg_netns_of((args)->skaddr);                                                             \
		_ends;                                                                                                 \
	})

#endif
