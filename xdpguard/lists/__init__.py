# SPDX-License-Identifier: GPL-2.0
"""Turn list files into sets of addresses."""
