# SPDX-License-Identifier: GPL-2.0
"""Names in the data plane that more than one module goes by."""

FUNCTION = "xdpguard"  # the program that is attached
GUARD = "xdpguard_guard"
AFTER = "xdpguard_after"
DEFAULT = "xdpguard_default"
FILTERS = "xdpguard_filters"
# Those it enters by tail calls, and their places in the map of programs: enum xg_program of bpf/programs.h.
CALLED = {AFTER: 0, GUARD: 1, FILTERS: 2, DEFAULT: 3}
PROGRAMS = (*CALLED, FUNCTION)
PROGRAMS_MAP = "programs"
EGRESS = "xdpguard_egress"  # the program at the egress of an interface: bpf/egress.c
