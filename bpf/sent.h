/* SPDX-License-Identifier: GPL-2.0 */
/* What left through the interfaces: written by the program at their egress (egress.c), read by the default. */
#ifndef XG_SENT_H
#define XG_SENT_H

#include "layouts/default.h"

#define XG_SENT_ENTRIES 65536

/*
 * Remote end and local port -> when something was last sent there, coarse monotonic, ns. The program at egress writes,
 * the default reads. Full: the least recently used entry is evicted, and what answers it belongs to nothing until the
 * next packet is sent.
 */
BPF_TABLE_PINNED("lru_hash", struct xg_sent_key, u64, sent, XG_SENT_ENTRIES, XG_PINS "/sent");

#endif
