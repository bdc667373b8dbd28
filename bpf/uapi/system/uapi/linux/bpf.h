/* SPDX-License-Identifier: GPL-2.0 */
/* bcc's own copy of linux/bpf.h is in force already. */
