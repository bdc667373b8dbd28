# SPDX-License-Identifier: GPL-2.0
"""``python -m xdpguard.cli``: the same as the command xdpguard."""

from xdpguard.cli.app import main

main()
