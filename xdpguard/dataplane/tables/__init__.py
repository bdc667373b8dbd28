# SPDX-License-Identifier: GPL-2.0
"""The maps and what they hold: rules, named lists and their index, settings, the guard's."""
