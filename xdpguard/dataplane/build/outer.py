# SPDX-License-Identifier: GPL-2.0
"""Maps that hold maps, made before bcc would make them.

bcc gives the pattern of what they hold a type of its own (BTF). Before Linux 6.3 the kernel then accepts nothing but
maps with such a type: bpf_map_meta_equal() compares `timer_off`, -ENOENT for a map whose type has no timer and -EINVAL
for a map without a type. The controller's maps have none.
"""

from __future__ import annotations

from pathlib import Path

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import indexes, kernel


def make_holders(folder: Path) -> None:
    """Make and pin those that are not pinned below the instance's folder yet."""
    for name in (*indexes.HOLDERS, indexes.FILTER_SET):
        path = folder / name
        if path.exists():
            continue
        with opened(indexes.create_holder(name)) as holder:
            kernel.pin(str(path), holder)
