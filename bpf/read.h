/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading the kernel's memory. bcc turns bpf_probe_read_kernel(), by its name, into bpf_probe_read() where it finds no
 * such symbol, as for every user but root, to whom /proc/kallsyms shows no addresses; XDP programs may not call that.
 * Every supported kernel has the helper, so it is called under a name of our own. Builds that read nothing leave it
 * unused.
 */
#ifndef XG_READ_H
#define XG_READ_H

__attribute__((unused)) static long (*xg_read_kernel)(void *to, u32 size,
						      const void *from) = (void *)BPF_FUNC_probe_read_kernel;

#endif
