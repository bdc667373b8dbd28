# SPDX-License-Identifier: GPL-2.0
"""Read what the data plane counts and samples."""
