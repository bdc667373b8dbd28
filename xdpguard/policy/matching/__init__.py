# SPDX-License-Identifier: GPL-2.0
"""The match language of filters: what a packet must be, in nftables' words."""
