# SPDX-License-Identifier: GPL-2.0
"""What this machine can do: costs, drop rates and loading times, beside other tools on the same packets."""
