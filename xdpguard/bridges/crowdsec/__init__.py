# SPDX-License-Identifier: GPL-2.0
"""The bridge to CrowdSec: a bouncer of its local API (docs.crowdsec.net, "Local API"; read in version 1.4.6)."""
