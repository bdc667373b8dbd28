/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whose socket it is. Most state changes happen in a softirq, where the current process is unrelated. Those that a
 * process makes by connect(), listen(), shutdown() or close() name it; the file's inode identifies the others.
 */
#ifndef XG_TCP_OWNER_H
#define XG_TCP_OWNER_H

#include "switches.h"
#include "ends.h"

#if !defined(XG_TASK_FLAGS) || !defined(XG_SOCK_SOCKET) || !defined(XG_ALLOC_SOCKET) || !defined(XG_ALLOC_INODE)
#error "XG_TASK_FLAGS, XG_SOCK_SOCKET, XG_ALLOC_SOCKET, XG_ALLOC_INODE: places in task_struct, sock, socket_alloc"
#endif

#define XG_KERNEL_THREAD 0x00200000u /* PF_KTHREAD, include/linux/sched.h */

/* Changes that only the process itself makes; resets, timers and `ss -K` end in CLOSE. */
static __always_inline int xg_is_own(int old_state, int new_state)
{
	switch (new_state) {
	case BPF_TCP_SYN_SENT:
	case BPF_TCP_LISTEN:
		return old_state == BPF_TCP_CLOSE;
	case BPF_TCP_FIN_WAIT1:
		return old_state == BPF_TCP_ESTABLISHED || old_state == BPF_TCP_SYN_RECV;
	case BPF_TCP_LAST_ACK:
		return old_state == BPF_TCP_CLOSE_WAIT;
	default:
		return 0;
	}
}

/* Notes the current process and its name. 0: it is a thread of the kernel, which may act for anybody. */
static __always_inline int xg_note_owner(u32 *pid, char comm[16])
{
	const void *task = (const void *)bpf_get_current_task();
	u32 flags = 0;

	XG_READ_KERNEL(flags, task + XG_TASK_FLAGS);
	if (flags & XG_KERNEL_THREAD)
		return 0;
	*pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(comm, 16);
	return 1;
}

/* struct socket is the first part of a struct socket_alloc, the inode the other. */
static __always_inline u32 xg_inode_of(const void *sk)
{
	unsigned long number = 0;
	void *socket = NULL;

	XG_READ_KERNEL(socket, sk + XG_SOCK_SOCKET);
	if (socket)
		XG_READ_KERNEL(number, socket - XG_ALLOC_SOCKET + XG_ALLOC_INODE);
	return number;
}

#endif
