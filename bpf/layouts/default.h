/* SPDX-License-Identifier: GPL-2.0 */
/* The default: what was sent, and what was cut. Python: xdpguard/dataplane/sys/layouts/default.py. */
#ifndef XG_LAYOUTS_DEFAULT_H
#define XG_LAYOUTS_DEFAULT_H

#include <linux/types.h>

/* What becomes of a packet that belongs to nothing: struct xg_settings, default_deny. */
enum xg_default_mode {
	XG_DEFAULT_PASS,
	XG_DEFAULT_SHADOW,  /* it is counted, and passes */
	XG_DEFAULT_ENFORCE, /* it is dropped */
};

/* A remote end that something was sent to, and the local port. ICMP echo: ports 0 and the identifier; others: 0. */
struct xg_sent_key {
	u8 address[16]; /* IPv4: the first four bytes */
	__be16 remote_port;
	__be16 local_port;
	u8 protocol;
	u8 ip_version;
	u16 zero;
};

/* Whose packets belong to nothing, and where they go. */
struct xg_cut_key {
	u8 source[16]; /* IPv4: the first four bytes */
	u16 port;      /* destination, host byte order; the type of an ICMP message; 0 for other protocols */
	u8 protocol;
	u8 ip_version;
	u32 zero;
};

struct xg_cut {
	u64 packets;
	u64 bytes;
	u64 last; /* CLOCK_BOOTTIME, ns */
};

#endif
