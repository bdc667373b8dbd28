# SPDX-License-Identifier: GPL-2.0
"""From C files to loaded programs: sources, flags, compiler, cache, programs, tracepoints."""
