# SPDX-License-Identifier: GPL-2.0
"""From people's files to sets of addresses."""
