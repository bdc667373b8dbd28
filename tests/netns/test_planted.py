# SPDX-License-Identifier: GPL-2.0
"""What another user of the machine plants, or swaps while it is looked at, is refused: nothing of it is loaded, read,
written or removed by root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.command import Command
from topology import INTERFACE, Lab

from xdpguard import instance, owned
from xdpguard.dataplane.build.cache import Cache
from xdpguard.dataplane.build.cflags import Switches
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.owned import check_own, make_own, open_own, read_secret

NOBODY = 65534
OTHERS = rf"belongs to user {NOBODY}"


def as_nobody(script: str) -> None:
    """Runs a script as a user without any rights."""
    subprocess.run(
        [sys.executable, "-I", "-c", script], user=NOBODY, group=NOBODY, extra_groups=[], check=True, cwd="/"
    )


@pytest.fixture
def common(reachable: Path) -> Path:
    """A folder as /tmp is: root's, where everybody can make files, and remove their own."""
    made = reachable / "common"
    made.mkdir()
    made.chmod(0o1777)
    return made


def theirs(common: Path) -> Path:
    """The folder x/cache of nobody's."""
    as_nobody(f"import os; os.makedirs('{common}/x/cache', 0o755)")
    return common / "x" / "cache"


def linked(common: Path) -> Path:
    (common / "real").mkdir(mode=0o700)
    as_nobody(f"import os; os.symlink('{common}/real', '{common}/x')")
    return common / "x"


def on_the_way(common: Path) -> Path:
    """A folder of root's in one of nobody's, who can put another in its place."""
    made = theirs(common) / "root"
    made.mkdir(mode=0o700)
    return made


def through_a_link(common: Path) -> Path:
    """The same behind a link of nobody's."""
    linked(common)
    (common / "real" / "cache").mkdir(mode=0o700)
    return common / "x" / "cache"


def writable(common: Path) -> Path:
    (common / "x").mkdir()
    (common / "x").chmod(0o777)
    return common / "x"


def sticky(common: Path) -> Path:
    return common


PLANTED = {
    theirs: OTHERS,
    linked: "is a link",
    on_the_way: OTHERS,
    through_a_link: "is a link",
    writable: "can be written by other users",
    sticky: "can be written by other users",
}


@pytest.mark.parametrize(("plant", "says"), PLANTED.items(), ids=[it.__name__ for it in PLANTED])
def test_a_planted_cache(lab: Lab, command: Command, common: Path, plant: Callable[[Path], Path], says: str) -> None:
    folder = plant(common)
    line = command.refused(3, "attach", INTERFACE, "--netns", lab.server, XDPGUARD_CACHE_DIR=str(folder))
    assert says.replace("\\", "") in line
    assert command.json("status")["interfaces"] in ([], {})


@pytest.mark.parametrize(("plant", "says"), list(PLANTED.items())[:-1], ids=[it.__name__ for it in PLANTED][:-1])
def test_a_planted_state(command: Command, common: Path, plant: Callable[[Path], Path], says: str) -> None:
    folder = plant(common)
    for arguments in (("block", "203.0.113.1"), ("rules",)):
        line = command.refused(3, *arguments, XDPGUARD_STATE_DIR=str(folder.parent), XDPGUARD_INSTANCE=folder.name)
        assert says.replace("\\", "") in line
    command.ok("block", "203.0.113.1", XDPGUARD_STATE_DIR=str(common / "own"))


def switches() -> Switches:
    return Switches(pins="/sys/fs/bpf/x", link_pins="/sys/fs/bpf/x/y", max_cpus=2)


def kept(folder: Path) -> Path:
    """Fills a cache; returns its file."""
    make_own(folder)
    path = Cache(folder)._path(switches())
    os.close(open_own(path, os.O_WRONLY | os.O_CREAT))
    return path


def test_a_planted_program_in_a_folder_of_roots(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    path = kept(folder)
    cache = Cache(folder)
    assert cache._read(switches()) is None, "the control: an empty file of root's is read, and is no program"
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(MissingError, match=OTHERS):
        cache._read(switches())
    os.chown(path, 0, 0)
    path.chmod(0o666)
    with pytest.raises(MissingError, match="written by other"):
        cache._read(switches())
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingError, match="is a link"):
        cache._read(switches())


def test_a_swap_between_check_and_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that was checked is the one that is used, whatever stands under its name by then."""
    good, evil = tmp_path / "good", tmp_path / "evil"
    for its in (good, evil):
        its.mkdir(mode=0o700)
        (its / "file").write_text(its.name)
    whole = owned._check

    def swapped(status: os.stat_result, path: Path, shared: bool) -> None:
        whole(status, path, shared)
        if path == good and not good.is_symlink():
            good.rename(tmp_path / "moved")
            good.symlink_to(evil)

    monkeypatch.setattr(owned, "_check", swapped)
    with os.fdopen(open_own(good / "file", os.O_RDONLY)) as file:
        assert file.read() == "good"
    assert good.is_symlink()
    with pytest.raises(MissingError, match="is a link"):
        check_own(good)


def test_a_folder_that_was_sound_is_judged_again_once_it_changes(tmp_path: Path) -> None:
    """What was found is remembered for that folder as it was, not for whatever has its name."""
    folder, aside = tmp_path / "own", tmp_path / "aside"
    folder.mkdir(mode=0o700)
    check_own(folder)
    folder.chmod(0o777)
    with pytest.raises(MissingError, match="written by other"):
        check_own(folder)
    folder.chmod(0o700)
    check_own(folder)
    os.chown(folder, 4321, 4321)
    with pytest.raises(MissingError, match="belongs to user 4321"):
        check_own(folder)
    os.chown(folder, 0, 0)
    check_own(folder)
    folder.rename(aside)
    check_own(folder)  # there is none
    folder.symlink_to(aside)
    with pytest.raises(MissingError, match="is a link"):
        check_own(folder)
    folder.unlink()
    folder.mkdir(mode=0o700)
    os.chown(folder, 4321, 4321)
    with pytest.raises(MissingError, match="belongs to user 4321"):
        check_own(folder)


def test_who_swaps_all_the_time_is_never_followed(common: Path) -> None:
    """Nobody plays with a name in /tmp: a folder of theirs, a link to one of root's, nothing."""
    secret = common.parent / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("secret")
    script = f"""
import os
x = '{common}/x'
for number in range(10**9):
    for do in (os.mkdir, lambda x: os.mkdir(x + '/y'), lambda x: os.rmdir(x + '/y'), os.rmdir,
               lambda x: os.symlink('{secret}', x), os.unlink):
        try:
            do(x)
        except OSError:
            pass
    if not number:
        print('playing', flush=True)
"""
    player = subprocess.Popen(
        [sys.executable, "-I", "-c", script], user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE
    )
    assert player.stdout is not None
    assert player.stdout.readline() == b"playing\n"
    outcomes = set()
    try:
        for _ in range(3000):
            try:
                make_own(common / "x" / "y")
                with os.fdopen(open_own(common / "x" / "y" / "file", os.O_RDWR | os.O_CREAT)) as file:
                    outcomes.add(str(Path(f"/proc/self/fd/{file.fileno()}").readlink()))
            except XdpguardError as error:
                outcomes.add(str(error).removeprefix(f"{common}/"))
            with suppress(FileNotFoundError):
                if (common / "x").lstat().st_uid == 0:
                    shutil.rmtree(common / "x")  # which nobody can remove
    finally:
        player.kill()
        player.communicate()
    assert not any("secret" in it for it in outcomes), outcomes
    assert [it.name for it in secret.iterdir()] == ["file"]
    assert (secret / "file").read_text() == "secret"
    assert any(it.startswith("/") for it in outcomes), "never was it made"
    assert any("user 65534" in it or "link" in it for it in outcomes), "the player never played"


def test_a_lock_that_is_a_link_destroys_nothing(command: Command, tmp_path: Path) -> None:
    command.ok("block", "203.0.113.1")
    victim, lock = tmp_path / "victim", command.store.parent / "lock"
    victim.write_text("precious")
    lock.unlink()
    lock.symlink_to(victim)
    assert "is a link" in command.refused(3, "block", "203.0.113.2")
    assert victim.read_text() == "precious"
    lock.unlink()
    command.ok("block", "203.0.113.2")


def test_a_planted_configuration(common: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDPGUARD_CONFIG_DIR", str(common))
    assert instance.find("web").config is None
    own = common.parent / "real.toml"
    own.touch(0o644)
    (common / "web.toml").symlink_to(own)
    assert instance.find("web").config == common / "web.toml", "the control: root's own link is followed"
    (common / "web.toml").unlink()
    as_nobody(f"open('{common}/web.toml', 'w').write('[api]')")
    with pytest.raises(MissingError, match=OTHERS):
        instance.find("web")
    (common / "web.toml").unlink()
    as_nobody(f"import os; os.symlink('{own}', '{common}/web.toml')")
    with pytest.raises(MissingError, match=f"is a link, of user {NOBODY}"):
        instance.find("web")


@pytest.fixture
def open_bpffs(reachable: Path) -> Iterator[Path]:
    """A BPF file system where everybody can make folders, as `mount -t bpf` makes it."""
    folder = reachable / "bpf"
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=1777", "bpf", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_planted_pins(lab: Lab, command: Command, open_bpffs: Path) -> None:
    at = {"XDPGUARD_BPFFS": str(open_bpffs)}
    as_nobody(f"import os; os.makedirs('{open_bpffs}/xdpguard/{command.instance}/v0')")
    as_nobody(f"import os; os.makedirs('{open_bpffs}/xdpguard/probe-999999999/v0')")
    for arguments in (("attach", INTERFACE, "--netns", lab.server), ("status",), ("explain", "192.0.2.1")):
        assert f"belongs to user {NOBODY}" in command.refused(3, *arguments, **at)
    pins = Pins(open_bpffs, command.instance)
    for remove in (pins.remove_all, pins.tidy, lambda: pins.remove_versions(["v0"])):
        with pytest.raises(MissingError, match=OTHERS):
            remove()
    assert (open_bpffs / "xdpguard" / command.instance / "v0").is_dir()
    assert (open_bpffs / "xdpguard" / "probe-999999999" / "v0").is_dir()


def test_secrets(common: Path) -> None:
    file = common.parent / "token"
    file.touch(0o600)
    file.write_text("secret")
    assert read_secret(file, 100) == b"secret"
    file.chmod(0o640)
    with pytest.raises(MissingError, match="can be read by other users"):
        read_secret(file, 100)
    file.chmod(0o600)
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(MissingError, match=OTHERS):
        read_secret(file, 100)
    os.chown(file, 0, 0)
    (common / "link").symlink_to(file)
    with pytest.raises(MissingError, match="is a link"):
        read_secret(common / "link", 100)
    with pytest.raises(MissingError, match="larger than 3 bytes"):
        read_secret(file, 3)
    with pytest.raises(MissingError, match="cannot be read: there is no such file"):
        read_secret(common / "none", 3)
    pipe = common.parent / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(MissingError, match="not a regular file"):
        read_secret(pipe, 3)


@pytest.mark.parametrize("what", ["fleet", "key"])
def test_who_reads_secrets_refuses_open_ones(command: Command, tmp_path: Path, what: str) -> None:
    file = tmp_path / "login"
    file.write_text('user = "a"\npassword = "b"\n' if what == "fleet" else "0123abcd\n")
    file.chmod(0o644)
    line = {
        "fleet": ("fleet", "join", "nats://127.0.0.1:1", "--name", "a", "--credentials", str(file)),
        "key": ("bridge", "crowdsec", "--key-file", str(file), "--url", "http://127.0.0.1:1"),
    }[what]
    assert f"{file} can be read by other users; close it: chmod 600 {file}" in command(*line).err
    file.chmod(0o600)
    assert "can be read" not in command(*line, "--extra").err, "the control"


def test_secrets_are_not_put_into_a_folder_of_others(command: Command, common: Path) -> None:
    folder = theirs(common)
    line = ("fleet", "setup", str(folder), "--host", "web1", "--listen", "127.0.0.1:4333")
    assert f"belongs to user {NOBODY}" in command.refused(3, *line)
    assert list(folder.iterdir()) == []
