# SPDX-License-Identifier: GPL-2.0
"""BGP FlowSpec: filters as rules of RFC 8955 and RFC 8956, as GoBGP and ExaBGP write them, and back."""
