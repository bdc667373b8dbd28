# SPDX-License-Identifier: GPL-2.0
"""The bpf(2) system call: maps, programs, test runs, and facts about the machine. Raises OSError as the kernel answers.

Talking to the kernel directly keeps `block`, `stats` and the like free of bcc, and lets a million entries pass as
one buffer. Layouts are those of ``union bpf_attr`` in include/uapi/linux/bpf.h; file descriptors are plain integers
owned by the caller.
"""

from xdpguard.dataplane.sys.kernel.machine import boot_id, possible_cpus, present_cpus, reads_locked, release
from xdpguard.dataplane.sys.kernel.maps import (
    MAP_ARRAY,
    MAP_ARRAY_OF_MAPS,
    MAP_HASH,
    MAP_INNER,
    MAP_LPM_TRIE,
    MAP_LRU_HASH,
    MAP_MMAPABLE,
    MAP_PERCPU_ARRAY,
    MAP_PROGRAMS,
    MapInfo,
    create_map,
    delete,
    entries,
    has_entries,
    lookup,
    map_by_id,
    map_info,
    mapped,
    open_pin,
    pairs,
    pin,
    pin_id,
    sum_over_cpus,
    update,
    update_batch,
)
from xdpguard.dataplane.sys.kernel.programs import (
    PROG_FLAG_XDP_HAS_FRAGS,
    PROG_TYPE_XDP,
    TCX_INGRESS,
    ProgramInfo,
    attach_program,
    attach_raw_tracepoint,
    attached_programs,
    load,
    load_xdp,
    next_program,
    program_by_id,
    program_info,
    put_program,
)
from xdpguard.dataplane.sys.kernel.testrun import Runner, TestRun, test_run
