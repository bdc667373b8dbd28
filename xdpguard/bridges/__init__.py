# SPDX-License-Identifier: GPL-2.0
"""Bridges: services that turn other systems' decisions into entries, each with an origin of its own."""
