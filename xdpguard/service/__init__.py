# SPDX-License-Identifier: GPL-2.0
"""The long-running service: reports floods, bans sources, and does the upkeep that the data plane cannot do alone."""
