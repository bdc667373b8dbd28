# SPDX-License-Identifier: GPL-2.0
"""The durable truth in SQLite: entries, lists, attachments, facts, and their schema."""
