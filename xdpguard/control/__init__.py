# SPDX-License-Identifier: GPL-2.0
"""All changes happen here: entries, lists, attachments, the guard's policy. Read controller.py first."""
