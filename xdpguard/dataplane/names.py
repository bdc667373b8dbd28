# SPDX-License-Identifier: GPL-2.0
"""Names in the data plane that more than one module goes by."""

FUNCTION = "xdpguard"
SHADOW = "xdpguard_shadow"  # the program that the other one calls where there are shadow entries
SHADOW_MAP = "shadow_program"  # where it finds it
