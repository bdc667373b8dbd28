/* SPDX-License-Identifier: GPL-2.0 */
/* What the controller knows of devices above this interface, in its namespace and in others. */
#ifndef XG_STAGES_ABOVE_H
#define XG_STAGES_ABOVE_H

#include "../maps.h"

#define XG_ABOVE 8192

/* enum xg_above and a number -> 1. Controller writes, program reads. Full: the highest ports are left out. */
BPF_TABLE_PINNED7("hash", u32, u32, above, XG_ABOVE, XG_LINK_PINS "/above", BPF_F_NO_PREALLOC);

static __always_inline bool xg_is_above(enum xg_above kind, u32 number)
{
	u32 key = kind << 16 | number;

	return above.lookup(&key) != NULL;
}

#endif
