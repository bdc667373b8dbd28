# SPDX-License-Identifier: GPL-2.0
"""What the user wants: targets, durations, configuration."""
