/* SPDX-License-Identifier: GPL-2.0 */
/* bcc's helpers.h includes this; none of what it declares is needed here. */
