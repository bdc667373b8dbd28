# SPDX-License-Identifier: GPL-2.0
"""The commands' answers with --json (explain and replay: xdpguard/explain/). Field names are the keys.

Import these only to print JSON: a short command in words need not load msgspec.
"""
