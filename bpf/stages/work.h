/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The SYN guard's working data for one packet: in a map value rather than on the stack, for the verifier's sake (see
 * verifier.h).
 */
#ifndef XG_STAGES_WORK_H
#define XG_STAGES_WORK_H

#include <linux/tcp.h>

#include "../layouts/default.h"
#include "../packet.h"
#include "../parse/options.h"

/* How a listener answers a SYN: as in tcp_openreq_init_rwin() and cookie_v4_check(). */
struct xg_listener {
	u32 space;    /* receive window it starts with, bytes, before rounding */
	u32 clamp;    /* most the window may become; 0: no limit */
	u32 rmem;     /* net.ipv4.tcp_rmem[2] */
	u16 user_mss; /* TCP_MAXSEG; 0: not set */
	bool full;    /* as many handshakes wait as its backlog allows: inet_csk_reqsk_queue_is_full() */
	bool options; /* the kernel can take window scale, SACK and timestamps out of the echoed timestamp */
	bool sack;
	bool window_scaling;
};

/* The SYN as the cookie is made of it: its header without options but for the MSS. */
struct xg_plain_syn {
	struct tcphdr header;
	u32 mss; /* the option, or padding */
};

/* What is sent: a TCP header, and up to five words of options. */
struct xg_synack {
	u32 words[5];
	u32 options[5];
	u32 option_words;
};

struct xg_work {
	struct xg_packet packet;
	struct xg_listener listener;
	struct xg_syn_options options;
	struct xg_plain_syn plain;
	struct xg_synack answer;
	/* The last destination that was found to be local, and the generation of the tables that said so. */
	union xg_address local;
	u32 local_generation;
	u32 local_version;
	struct xg_cut_key cut; /* what the default counts the packet as */
};

/*
 * [0] -> the working data of this CPU. Program writes and reads. Not pinned: nothing in it outlives a packet that
 * matters.
 */
BPF_TABLE("percpu_array", u32, struct xg_work, works, 1);

#endif
