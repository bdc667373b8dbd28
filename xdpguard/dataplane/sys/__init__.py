# SPDX-License-Identifier: GPL-2.0
"""What the kernel offers: bpf(2), layouts shared with C, pins, maps, the ring buffer, BTF."""
