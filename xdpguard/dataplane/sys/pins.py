# SPDX-License-Identifier: GPL-2.0
"""Pinned maps: where they are, whether they are ours and of the layout we know, opening and removing them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.abi import ABI
from xdpguard.dataplane.sys.bpffs import check_visible, ensure_bpffs
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.owned import check_own

_PROGRAMS = "programs-"
_LONGEST = 100  # characters; two such names and a + make a file name
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def encoded(text: str) -> str:
    """Encode a name for the BPF file system, which allows no dot: other characters become ``_`` and two hex digits."""
    found = "".join(chr(octet) if chr(octet) in _SAFE else f"_{octet:02x}" for octet in os.fsencode(text))
    if len(found) <= _LONGEST:
        return found
    import hashlib  # loads OpenSSL

    return hashlib.sha256(os.fsencode(text)).hexdigest()


class Pins:
    """The pinned maps of one instance: ``<bpffs>/xdpguard/<instance>/v<ABI>/``."""

    def __init__(self, bpffs: Path, instance: str) -> None:
        self._bpffs = bpffs
        self._root = bpffs / "xdpguard" / instance
        self.folder = self._root / f"v{ABI}"

    def link_folder(self, name: str, netns: str) -> Path:
        """Return folder of one interface's own maps."""
        return self.folder / "links" / f"{encoded(netns)}+{encoded(name)}"

    def programs(self, name: str, netns: str) -> set[Path]:
        """Return the pins of an interface's maps of programs: one for each build, of which one is in force."""
        return set(self.link_folder(name, netns).glob(f"{_PROGRAMS}*"))

    def new_programs(self, name: str, netns: str) -> str:
        """Return a name for one more such pin."""
        taken = {path.name for path in self.programs(name, netns)}
        return next(it for number in itertools.count(1) if (it := f"{_PROGRAMS}{number}") not in taken)

    def link_number(self, name: str, netns: str) -> int:
        """By which samples of drops tell an interface from others: a digest of that folder's name, never 0."""
        return zlib.crc32(self.link_folder(name, netns).name.encode()) or 1

    def exist(self) -> bool:
        """Return whether the instance has maps of this version in the kernel. MissingError where pins are hidden."""
        self._check()
        return self._pinned(self.folder / "settings")

    def _pinned(self, path: Path) -> bool:
        if path.exists():
            return True
        check_visible(self._bpffs)
        return False

    def prepare(self, name: str, netns: str) -> None:
        """Make the folders, mounting the BPF file system when it is not."""
        ensure_bpffs(self._bpffs)
        try:
            self._make(self.link_folder(name, netns))
        except FileNotFoundError:
            # Another instance removed the common folder just then.
            self._make(self.link_folder(name, netns))

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, closed to others whatever the umask."""
        self._check()
        for its in (*reversed(folder.relative_to(self._bpffs).parents[:-1]), folder.relative_to(self._bpffs)):
            (self._bpffs / its).mkdir(exist_ok=True, mode=0o700)
        self._check()

    def _check(self) -> None:
        """Raise MissingError if another user made the folders, or put links in their place."""
        check_own(self.folder)

    def open(self, name: str, key_size: int, value_size: int) -> int:
        """Open a shared map; return a descriptor. XdpguardError when its layout is not the one expected."""
        self._check()
        return _open(self.folder / name, key_size, value_size)

    def open_link(self, map_name: str, name: str, netns: str, value_size: int, key_size: int = 4) -> int:
        """Open a map of an interface's own, by its name: ``counters``, ``guard``, ``kept`` and so on."""
        self._check()
        return _open(self.link_folder(name, netns) / map_name, key_size, value_size)

    def ring_id(self, name: str) -> int:
        """Return which ring of that name is pinned: its map's kernel id; 0 when there is none."""
        try:
            return kernel.pin_id(self.folder / name)
        except FileNotFoundError:
            return 0

    def open_ring(self, name: str) -> int:
        """Open a ring."""
        self._check()
        return _open(self.folder / name, 0, 0)

    def names(self) -> set[Path]:
        """Return every pin there is, of this version."""
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def map_ids(self) -> Iterator[int]:
        """Yield the kernel id of every map the instance has pinned, of any version; each costs three system calls."""
        self._check()
        for folder, _, names in os.walk(self._root):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    yield kernel.pin_id(Path(folder, name))

    def other_versions(self) -> list[str]:
        """Return versions of pins that another xdpguard left, such as ``v0``."""
        self._check()
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.name != self.folder.name)

    def is_current(self, name: str, netns: str) -> bool:
        """Return whether an interface's own maps are of this version. MissingError as for `exist`."""
        return self._pinned(self.link_folder(name, netns) / "counters")

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove single pins."""
        for path in paths:
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove folders that hold nothing, the instance's own included."""
        self._check()
        if not self._root.is_dir():
            return
        for root, folders, files in os.walk(self._root, topdown=False):
            if not files and not any((Path(root) / name).exists() for name in folders):
                Path(root).rmdir()
        _remove_if_empty(self._root.parent)

    def remove_link(self, name: str, netns: str) -> None:
        """Remove an interface's own pins."""
        self._check()
        _remove_tree(self.link_folder(name, netns))

    def remove_folder(self, folder: Path) -> None:
        """Remove the pins in a folder and below."""
        self._check()
        _remove_tree(folder)

    def remove_versions(self, versions: Iterable[str]) -> None:
        """Remove other versions' pins."""
        self._check()
        for version in versions:
            _remove_tree(self._root / version)

    def remove_all(self) -> None:
        """Remove everything the instance has pinned."""
        self._check()
        if self._root.is_dir():
            _remove_tree(self._root)
            _remove_if_empty(self._root.parent)


def _remove_if_empty(folder: Path) -> None:
    # Another instance may be using it, or removing it too.
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_orphans(bpffs: Path, names: re.Pattern[str]) -> None:
    """Remove the pins of commands that were killed before they could do so; ``names``: theirs, with the process id."""
    check_own(bpffs / "xdpguard")
    with contextlib.suppress(FileNotFoundError):
        for path in (bpffs / "xdpguard").iterdir():
            if orphaned(names, path.name):
                Pins(bpffs, path.name).remove_all()


def orphaned(names: re.Pattern[str], name: str) -> bool:
    """Return whether a name is one of those, with the id of a process that no longer exists."""
    found = names.match(name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _open(path: Path, key_size: int, value_size: int) -> int:
    try:
        descriptor = kernel.open_pin(str(path))
    except FileNotFoundError as error:
        raise XdpguardError(f"no pinned map {path}", "attach an interface first: xdpguard attach IFACE") from error
    except PermissionError as error:
        raise MissingError("no permission to use BPF maps", "run as root: sudo xdpguard ...") from error
    info = kernel.map_info(descriptor)
    if (info.key_size, info.value_size) != (key_size, value_size):
        os.close(descriptor)
        raise wrong_layout(path)
    return descriptor


def wrong_layout(path: Path | str) -> XdpguardError:
    """Return what to say about a pin that is not what this version makes."""
    return XdpguardError(
        f"the pinned map {path} has a different layout from what this xdpguard uses (other limits, or another build)",
        "detach what uses it and attach again: xdpguard detach --all; rules are kept",
    )


def _remove_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            (Path(root) / name).unlink(missing_ok=True)
        Path(root).rmdir()
