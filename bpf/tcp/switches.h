/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Compile-time switches of the programs for `xdpguard tcp`. All of them are always given: what to examine comes from
 * xdpguard/tcp/filters.py, offsets in the kernel's structs (bytes; *_SHIFT in bits) from the kernel's own type
 * information, see xdpguard/dataplane/sys/btf.py.
 */
#ifndef XG_TCP_SWITCHES_H
#define XG_TCP_SWITCHES_H

#include <linux/in.h>
#include <linux/types.h>

#if !defined(XG_NETNS) || !defined(XG_FAMILY) || !defined(XG_STATES) || !defined(XG_LONGER)
#error "XG_NETNS, XG_FAMILY, XG_STATES, XG_LONGER: namespace (0: all), 4, 6 or 0, bits of states, least ns"
#endif
#if !defined(XG_LOCAL_HIGH) || !defined(XG_LOCAL_LOW) || !defined(XG_LOCAL_MASK_HIGH) || !defined(XG_LOCAL_MASK_LOW)
#error "XG_LOCAL_*: prefix of the local address, in halves as they stand in memory"
#endif
#if !defined(XG_REMOTE_HIGH) || !defined(XG_REMOTE_LOW) || !defined(XG_REMOTE_MASK_HIGH) || !defined(XG_REMOTE_MASK_LOW)
#error "XG_REMOTE_*: likewise of the remote address"
#endif
#if !defined(XG_LOCAL_PORT_FIRST) || !defined(XG_LOCAL_PORT_LAST) || !defined(XG_REMOTE_PORT_FIRST) ||                 \
	!defined(XG_REMOTE_PORT_LAST)
#error "XG_LOCAL_PORT_*, XG_REMOTE_PORT_*: ranges of ports"
#endif
#if !defined(XG_SOCK_FAMILY) || !defined(XG_SOCK_PROTOCOL) || !defined(XG_SOCK_LOCAL4) || !defined(XG_SOCK_REMOTE4) || \
	!defined(XG_SOCK_LOCAL6) || !defined(XG_SOCK_REMOTE6) || !defined(XG_SOCK_LOCAL_PORT) ||                       \
	!defined(XG_SOCK_REMOTE_PORT)
#error "XG_SOCK_*: places of family, protocol, addresses and ports in struct sock"
#endif

#endif
