# SPDX-License-Identifier: GPL-2.0
"""An instance: one policy, one set of pinned maps, one store. Holds its name, its directories and its locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpguard.closeable import opened
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.owned import check_file, make_own, open_own

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_LOCK_WAIT = 30.0  # seconds; the longest change, an attach with a full table, takes a few
_LOCK_POLL = 0.05
_STATE = "/var/lib/xdpguard"
_NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}  # linux/capability.h
# What commands need that deal with attached programs: the kernel opens programs and maps by their id, and enters
# network namespaces, for CAP_SYS_ADMIN alone.
ATTACHED = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN")


@dataclass(frozen=True)
class Instance:
    """Names an instance and the directories it uses."""

    name: str
    state: Path
    bpffs: Path
    config: Path | None = None

    @property
    def store(self) -> Path:
        """The SQLite file with the rules."""
        return self.state / self.name / "store.db"

    @property
    def compiled(self) -> Path:
        """The directory of cached compiled programs, shared by all instances; next to the state if that was moved."""
        usual = "/var/cache/xdpguard" if self.state == Path(_STATE) else str(self.state / "compiled")
        return _folder("XDPGUARD_CACHE_DIR", usual)

    @contextmanager
    def lock(self, on_wait: Callable[[str], None] = lambda message: None) -> Iterator[None]:
        """Hold the exclusive lock for one change.

        While another command holds it, report it once through ``on_wait`` and wait; raise XdpguardError after 30 s.
        """
        with self._lock_file("lock") as descriptor:
            self._wait(descriptor, on_wait)
            _write_holder(descriptor)
            yield

    def reader(self) -> AbstractContextManager[None]:
        """Hold the exclusive right to read drop samples. Raise XdpguardError if another process holds it."""
        return self.alone(
            "reader",
            f"already reads the drops of instance '{self.name}' (xdpguard events or capture)",
            "stop it first; xdpguard events without --follow shows the latest drops without it",
        )

    def service(self) -> AbstractContextManager[None]:
        """Hold the exclusive right to run as the service. Raise XdpguardError if another process holds it."""
        return self.alone(
            "service",
            f"already runs as the service of instance '{self.name}' (xdpguard run)",
            "stop it first; to make it reload its configuration, send it SIGHUP",
        )

    def served_by(self) -> int:
        """Return the process that runs as the service; 0 if none does. Takes no lock, which would refuse one."""
        file = self.state / self.name / "service"
        try:
            inode, holder = str(file.stat().st_ino), file.read_text(encoding="ascii", errors="replace").strip()
            locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        # "1: FLOCK ADVISORY WRITE 812 fe:01:274446 0 EOF"; a line of a waiting process has "->" before FLOCK.
        held = [it for line in locks if len(it := line.split()) > 5 and it[1] == "FLOCK"]
        found = [it[4] for it in held if it[5].rpartition(":")[2] == inode and it[4] == holder]
        return int(found[0]) if found else 0

    @contextmanager
    def alone(self, file: str, does: str, remedy: str) -> Iterator[None]:
        """Hold the lock of that name alone. Raise XdpguardError if another process holds it, and say what that does."""
        with self._lock_file(file) as descriptor:
            holder = _try_lock(descriptor)
            if holder:
                raise XdpguardError(f"process {holder} {does}", remedy)
            _write_holder(descriptor)
            yield

    @contextmanager
    def _lock_file(self, name: str) -> Iterator[int]:
        folder = self.state / self.name
        make_own(folder)
        with opened(open_own(folder / name, os.O_RDWR | os.O_CREAT)) as descriptor:
            yield descriptor

    def _wait(self, descriptor: int, on_wait: Callable[[str], None]) -> None:
        end = time.monotonic() + _LOCK_WAIT
        reported = False
        while True:
            holder = _try_lock(descriptor)
            if not holder:
                return
            if not reported:
                on_wait(f"waiting for another xdpguard command (process {holder})")
                reported = True
            if time.monotonic() > end:
                raise XdpguardError(
                    f"another xdpguard command (process {holder}) holds instance '{self.name}'",
                    "wait for it to finish, or stop it if it hangs, and try again",
                )
            select.select([], [], [], _LOCK_POLL)


def _try_lock(descriptor: int) -> str:
    """Try to take the lock; return the holder's process id, empty when the lock was taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
    return ""


def _write_holder(descriptor: int) -> None:
    # Only others' messages need it: on a full disk, what cannot be done is told where it is tried.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def find(name: str) -> Instance:
    """Return the instance of that name. XDPGUARD_STATE_DIR and XDPGUARD_BPFFS override its directories."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"not an instance name: {name!r}", "use 1 to 32 letters, digits, - or _")
    config = _folder("XDPGUARD_CONFIG_DIR", "/etc/xdpguard") / f"{name}.toml"
    check_file(config)
    return Instance(
        name,
        _folder("XDPGUARD_STATE_DIR", _STATE),
        _folder("XDPGUARD_BPFFS", "/sys/fs/bpf"),
        config if os.access(config, os.R_OK) else None,
    )


def _folder(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or usual).absolute()


def require_privileges(*names: str) -> None:
    """Raise MissingError, naming what is lacking, unless this process has these capabilities; by default those to load
    programs and change links. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    """
    # Without CAP_PERFMON the verifier rejects the pointer arithmetic in our programs.
    wanted = names or ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")
    lacking = lacks(wanted)
    if not lacking:
        return
    if lacking == list(wanted):
        raise MissingError(f"this needs root ({in_a_row(wanted)})", "run it with sudo")
    raise MissingError(f"this needs {in_a_row(lacking)}, which this process lacks", "run it with sudo, or grant it")


def lacks(wanted: Sequence[str] = ATTACHED) -> list[str]:
    """Return those of these capabilities that this process does not have."""
    held = _effective()
    covered = {"CAP_BPF", "CAP_PERFMON"} if held >> _NUMBERS["CAP_SYS_ADMIN"] & 1 else set()
    return [name for name in wanted if name not in covered and not held >> _NUMBERS[name] & 1]


def in_a_row(names: Sequence[str]) -> str:
    """Join names: A, B and C."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _effective() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
