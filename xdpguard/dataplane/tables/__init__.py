# SPDX-License-Identifier: GPL-2.0
"""The contents of the maps: rules, named lists and their index, settings, the SYN guard's policy and state."""
