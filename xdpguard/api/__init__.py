# SPDX-License-Identifier: GPL-2.0
"""The HTTP API of ``run``: a process of its own that carries out the commands themselves, each in a child."""
