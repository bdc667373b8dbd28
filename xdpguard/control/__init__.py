# SPDX-License-Identifier: GPL-2.0
"""The only place that changes anything: entries, lists, attachments, the guard's policy. Read controller.py first."""
