# SPDX-License-Identifier: GPL-2.0
"""BGP: FlowSpec rules and blackhole routes that GoBGP or ExaBGP receive become filters, and some go back upstream."""
