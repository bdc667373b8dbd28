/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every compile-time switch. xdpguard/dataplane/build/cflags.py always passes all of them and holds the defaults; a
 * missing one is an error here, never a silent zero.
 */
#ifndef XG_CONFIG_H
#define XG_CONFIG_H

#ifndef XG_OBSERVE
#error "XG_OBSERVE: 1 counts what would be dropped and passes it, 0 drops"
#endif
#ifndef XG_LOOPBACK
#error "XG_LOOPBACK: 1 on a loopback interface, where 127/8 and ::1 are valid sources"
#endif
#ifndef XG_FRAGS
#error "XG_FRAGS: 1 when a frame may span several buffers (jumbo MTU), 0 when it never does"
#endif
#ifndef XG_CHECK_FLAGS
#error "XG_CHECK_FLAGS: 1 drops impossible TCP flag combinations"
#endif
#ifndef XG_CHECK_SOURCE
#error "XG_CHECK_SOURCE: 1 drops impossible source addresses"
#endif
#ifndef XG_MAX_RULES
#error "XG_MAX_RULES: capacity of each rule table and of the hit counters"
#endif
#ifndef XG_MAX_CPUS
#error "XG_MAX_CPUS: CPUs that get hit counters of their own"
#endif
#ifndef XG_SOURCES
#error "XG_SOURCES: entries of the per-source LRU tables"
#endif
#ifndef XG_TUPLES
#error "XG_TUPLES: entries of the per-tuple LRU tables"
#endif
#ifndef XG_NEW_SOURCES_PER_SECOND
#error "XG_NEW_SOURCES_PER_SECOND: new LRU entries a CPU may make in a second"
#endif
#ifndef XG_NEW_TUPLES_PER_SECOND
#error "XG_NEW_TUPLES_PER_SECOND: new LRU entries a CPU may make in a second"
#endif
#ifndef XG_BTF
#error "XG_BTF: 1 when the places of the kernel's own fields below are known, 0 where it tells nothing of them"
#endif
#if XG_BTF
#if !defined(XG_SOCK_RCVBUF) || !defined(XG_SOCK_USERLOCKS) || !defined(XG_SOCK_USERLOCKS_SHIFT) ||                    \
	!defined(XG_SOCK_MAX_BACKLOG) || !defined(XG_SOCK_NET) || !defined(XG_SOCK_QUEUE_LENGTH)
#error "XG_SOCK_*: places in struct sock and inet_connection_sock, bytes"
#endif
#if !defined(XG_TCP_WINDOW_CLAMP) || !defined(XG_TCP_USER_MSS) || !defined(XG_REQUEST_ISN)
#error "XG_TCP_*, XG_REQUEST_*: places in struct tcp_sock and tcp_request_sock, bytes"
#endif
#if !defined(XG_NET_TIMESTAMPS) || !defined(XG_NET_SACK) || !defined(XG_NET_WINDOW_SCALING) || !defined(XG_NET_RMEM)
#error "XG_NET_*: places of sysctls in struct net, bytes"
#endif
#endif
#ifndef XG_VETH
#error "XG_VETH: 1 on a veth, whose answers arrive only while its peer has a program (needs XG_BTF)"
#endif
#if XG_VETH
#if !defined(XG_BUFF_RXQ) || !defined(XG_RXQ_DEV) || !defined(XG_DEV_PRIVATE) || !defined(XG_DEV_PROGRAMS)
#error "XG_BUFF_*, XG_RXQ_*, XG_DEV_*: places in struct xdp_buff, xdp_rxq_info and net_device, bytes"
#endif
#endif
#ifndef XG_RAW_COOKIES
#error "XG_RAW_COOKIES: 1 when the kernel makes cookies without a listener (6.0)"
#endif
#ifndef XG_FAKE_CLOCK
#error "XG_FAKE_CLOCK: 1 only under test, where the map fake_clock is the time"
#endif
#ifndef XG_PROBE
#error "XG_PROBE: 1 only for explain and replay, which ask what would become of a packet: see probe/probe.h"
#endif
#ifndef XG_LOAD_BYTES
#error "XG_LOAD_BYTES: 1 when the kernel copies from a packet for a program (5.18)"
#endif
#ifndef XG_PINS
#error "XG_PINS: folder of the instance's pinned maps"
#endif
#ifndef XG_LINK_PINS
#error "XG_LINK_PINS: folder of the interface's own pinned maps"
#endif
#ifndef XG_PROGRAMS
#error "XG_PROGRAMS: name of the pin, in that folder, of the map of programs"
#endif

#endif
