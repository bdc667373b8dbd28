/* SPDX-License-Identifier: GPL-2.0 */
/* Address families: linux/socket.h has them for the kernel only. */
#ifndef XG_FAMILIES_H
#define XG_FAMILIES_H

#define XG_AF_INET 2
#define XG_AF_INET6 10

#endif
