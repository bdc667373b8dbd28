# SPDX-License-Identifier: GPL-2.0
"""Entries that many hosts share, through NATS JetStream. Which of them are in force here, this host decides."""
