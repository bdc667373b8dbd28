# SPDX-License-Identifier: GPL-2.0
"""The source of truth in SQLite: entries, lists, attachments, facts, and their schema."""
