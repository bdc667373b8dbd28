# SPDX-License-Identifier: GPL-2.0
"""The guard's controller as a service: what floods are, who is banned, and what else the data plane cannot do alone."""
