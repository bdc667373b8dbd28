# SPDX-License-Identifier: GPL-2.0
"""What TCP makes of the packets: states, transitions, round-trip times, retransmissions, congestion windows."""
