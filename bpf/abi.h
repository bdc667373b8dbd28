/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The structs shared with Python, which declares them in xdpguard/dataplane/sys/layouts/. Each program is compiled with
 * assertions of every size and offset (xdpguard/dataplane/build/assertions.py), so that a difference does not compile.
 * A change of any of them is a change of the ABI number (abi.py).
 */
#ifndef XG_ABI_H
#define XG_ABI_H

#include "layouts/rules.h"
#include "layouts/filters.h"
#include "layouts/counts.h"
#include "layouts/samples.h"
#include "layouts/guard.h"

#endif
