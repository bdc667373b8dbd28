# SPDX-License-Identifier: GPL-2.0
"""The live screen: `xdpguard top`."""
