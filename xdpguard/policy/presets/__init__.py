# SPDX-License-Identifier: GPL-2.0
"""Ready-made filters for the floods that hosts see most, each with its source."""
