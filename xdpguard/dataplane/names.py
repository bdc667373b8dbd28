# SPDX-License-Identifier: GPL-2.0
"""Names in the data plane that more than one module goes by."""

FUNCTION = "xdpguard"
AFTER = "xdpguard_after"  # the program that the other one calls when there is something to do behind the verdict
AFTER_MAP = "after_program"  # where it finds it
