# SPDX-License-Identifier: GPL-2.0
"""TCP as the host sees it: states, transitions, round-trip times, retransmissions, congestion windows."""
