# SPDX-License-Identifier: GPL-2.0
"""Rules as data: reading them from people's files, keeping them for good."""
