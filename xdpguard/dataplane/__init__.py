# SPDX-License-Identifier: GPL-2.0
"""The kernel side of xdpguard: compiling, loading, pinned maps."""
