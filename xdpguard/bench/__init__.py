# SPDX-License-Identifier: GPL-2.0
"""Measure this machine: costs, drop rates and loading times, beside other tools on the same packets."""
