/* SPDX-License-Identifier: GPL-2.0 */
/* The network namespace of a socket, read from the kernel's structs. */
#ifndef XG_TCP_NETNS_H
#define XG_TCP_NETNS_H

#include <linux/types.h>

#include "../read.h"

#if !defined(XG_SOCK_NET) || !defined(XG_NET_NUMBER)
#error "XG_SOCK_NET, XG_NET_NUMBER: places in struct sock and struct net"
#endif

#define XG_READ_KERNEL(to, from) xg_read_kernel(&(to), sizeof(to), (const void *)(from))

/* Its inode number. */
static __always_inline u32 xg_netns_of(const void *sk)
{
	void *net = NULL;
	u32 number = 0;

	XG_READ_KERNEL(net, sk + XG_SOCK_NET);
	XG_READ_KERNEL(number, net + XG_NET_NUMBER);
	return number;
}

#endif
