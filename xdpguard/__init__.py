# SPDX-License-Identifier: GPL-2.0
"""xdpguard: an XDP packet-inspection firewall and SYN-flood guard for Linux hosts."""

__version__ = "0.1.0"
