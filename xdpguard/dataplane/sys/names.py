# SPDX-License-Identifier: GPL-2.0
"""Names in the data plane that more than one module goes by."""

FUNCTION = "xdpguard"  # the program that is attached
GUARD = "xdpguard_guard"
AFTER = "xdpguard_after"
FILTERS = "xdpguard_filters"
# Those it enters by tail calls, and their places in the map of programs: enum xg_program of bpf/programs.h.
CALLED = {AFTER: 0, GUARD: 1, FILTERS: 2}
PROGRAMS = (*CALLED, FUNCTION)
PROGRAMS_MAP = "programs"
