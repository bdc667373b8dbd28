# SPDX-License-Identifier: GPL-2.0
"""Files that users name: what is no regular file is refused with one sentence, and nothing waits for it."""

from __future__ import annotations

import errno
import functools
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpguard import files, process, shortage
from xdpguard.capture import output, stream
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.lists import parse
from xdpguard.lists.formats import collector, read_file
from xdpguard.policy import load
from xdpguard.store import database

READERS: dict[str, Callable[[Path], object]] = {
    "list": read_file,
    "configuration": load.load,
    "capture": lambda path: stream.opened(str(path)),
}


def bad_files(folder: Path) -> dict[str, Path]:
    """Paths that lead to no readable file, by a part of what is said of each."""
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    return {
        "it is a FIFO": folder / "fifo",
        "it is a device": Path("/dev/zero"),
        "it is a socket": folder / "socket",
        "it is a directory": folder,
        "symbolic links form a loop": folder / "loop",
        "the name is too long": folder / ("a" * 300),
        "has a NUL": folder / "a\0b",
        "no such file": folder / "\udcff",
        "is not a directory": Path("/dev/null/x"),
        "cannot be encoded": Path("\ud800"),
    }


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused(reader: str, tmp_path: Path) -> None:
    for words, path in bad_files(tmp_path).items():
        with pytest.raises(UsageError) as caught:
            READERS[reader](path)
        assert words in str(caught.value)
        assert caught.value.remedy
        assert str(caught.value).isprintable()
    # Positive control.
    (tmp_path / "good").write_text("")
    os.close(files.opened(tmp_path / "good", ""))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(UsageError, match="cannot be read: no permission"):
        files.opened(tmp_path / "secret", "")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_not_put_down_to_the_file(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    said = shortage.of(OSError(number, os.strerror(number)))
    assert said is not None
    monkeypatch.setattr(os, "open", none_left)
    for opened in (lambda: files.opened(Path("list.txt"), ""), lambda: output.Output("frames.pcap")):
        with pytest.raises(MissingError) as caught:
            opened()
        assert (str(caught.value), caught.value.remedy) == (str(said), said.remedy)


def test_a_file_named_like_a_shortage_is_only_missing() -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        files.opened(Path("Too many open files"), "")


def test_the_name_of_a_process_is_safe_to_print() -> None:
    before = process.name_of(os.getpid())
    try:
        Path("/proc/self/comm").write_bytes(b"a\x1b[2Jb\nc")
        assert process.name_of(os.getpid()) == "a?[2Jb?c"
    finally:
        Path("/proc/self/comm").write_text(before)
    assert process.name_of(0) == ""


@pytest.mark.parametrize("words", ["form a loop", "the name is too long", "has a NUL", "is not a", "cannot be encoded"])
def test_outputs(words: str, tmp_path: Path) -> None:
    for path in (path for said, path in bad_files(tmp_path).items() if words in said):
        with pytest.raises(UsageError):
            output.Output(str(path))


def test_a_configuration_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.toml"
    path.write_text("# " + "x" * 100 + "\n")
    assert load.load(path)
    monkeypatch.setattr(load, "LARGEST", 100)
    with pytest.raises(UsageError, match="larger than 100 bytes"):
        load.load(path)


def test_a_list_named_with_a_nul_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[lists.a]\nfile = "a\\u0000b"\n')
    with pytest.raises(UsageError, match=r"a.toml:2: lists.a.file: not a file name: .* has a NUL"):
        load.load(path)


def test_targets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MOST", 3)
    monkeypatch.setattr(parse, "MOST_LINES", 5)
    assert len(parse.parse_lines("stdin", [b"192.0.2.1\n", b"192.0.2.2\n", b"192.0.2.3\n"]).prefixes) == 3
    with pytest.raises(UsageError, match="more than 3 targets") as caught:
        parse.parse_lines("stdin", iter([b"192.0.2.%d\n" % n for n in range(9)]))
    assert "lists load" in caught.value.remedy
    with pytest.raises(UsageError, match="more than 5 lines"):
        parse.parse_lines("stdin", iter([b"\n"] * 9))


def test_notes_on_host_bits_are_bounded() -> None:
    found = parse.parse_lines("stdin", (b"192.0.%d.1/24\n" % n for n in range(99)))
    assert (len(found.notes), found.cleared) == (parse.NOTES, 99)


def test_lines_that_are_nearly_addresses_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MANY_FAULTS", 50)
    path = tmp_path / "near.txt"
    path.write_text("192.0.2.1\n" * 60 + "192.0.2.1x\n" * 60)
    assert read_file(path).skipped == 60
    path.write_text("192.0.2.1\n" * 3 + "192.0.2.1x\n" * 60)
    with pytest.raises(UsageError, match="not a list: 60 lines without an address"):
        read_file(path)


def test_who_has_locked_the_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    with database.Store(path):
        pass
    ready, told = os.pipe()
    done, finish = os.pipe()
    child = os.fork()
    if child == 0:
        its = sqlite3.connect(path, isolation_level=None)
        its.execute("BEGIN EXCLUSIVE")
        os.write(told, b"x")
        os.read(done, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0.0))
        with pytest.raises(XdpguardError, match=rf"is locked by process {child} \(") as caught, database.Store(path):
            pass
        assert "try again" in caught.value.remedy
    finally:
        os.write(finish, b"x")
        os.waitpid(child, 0)
        for descriptor in (ready, told, done, finish):
            os.close(descriptor)
    with database.Store(path):
        pass
