/* SPDX-License-Identifier: GPL-2.0 */
/* bcc's helpers.h sizes its ring-buffer macros by the page. */
#ifndef XG_UAPI_PAGE_H
#define XG_UAPI_PAGE_H

#define PAGE_SIZE 4096

#endif
