/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The first file bcc includes, instead of a kernel tree's own.
 * bcc carries its own linux/bpf.h; the guard below keeps the installed, often older one out.
 */
#ifndef XG_UAPI_KCONFIG_H
#define XG_UAPI_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1
#define __LINUX_BPF_H__

#endif
