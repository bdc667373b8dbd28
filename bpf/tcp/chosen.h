/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One process's sockets only (XG_PID). In a softirq only the inode of a socket's file tells whose socket it is, so the
 * command repeatedly puts the inodes that the process has open into a table.
 */
#ifndef XG_TCP_CHOSEN_H
#define XG_TCP_CHOSEN_H

#include "switches.h"
#include "ends.h"
#include "owner.h"

#if !defined(XG_PID) || !defined(XG_INODES)
#error "XG_PID, XG_INODES: process id, 0: every process; entries"
#endif

#if XG_PID
/*
 * Inode -> 1. The command writes and removes. Full: the process has more sockets than are examined; the command says
 * so.
 */
BPF_TABLE("hash", u32, u8, inodes, XG_INODES);

static __always_inline int xg_chosen(const void *sk)
{
	u32 inode = xg_inode_of(sk);

	return inode && inodes.lookup(&inode);
}
#else
#define xg_chosen(sk) 1
#endif

#endif
