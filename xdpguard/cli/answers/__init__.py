# SPDX-License-Identifier: GPL-2.0
"""What the commands answer with --json; explain and replay: xdpguard/explain/. Names of fields are the keys.

To be imported only by what prints JSON: loading msgspec costs a short command a tenth of its time.
"""
