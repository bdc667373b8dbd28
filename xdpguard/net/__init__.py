# SPDX-License-Identifier: GPL-2.0
"""The host's network: links, namespaces, sockets."""
