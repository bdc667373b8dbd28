# SPDX-License-Identifier: GPL-2.0
"""Build the disk of a Debian 12 machine with one of Debian's kernels: packages, the lab's Python, a key to log in with.

Built once per set of inputs and kept below .machines/ of the checkout; a machine boots from a layer on top of it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".machines"
SOURCE = "/root/xdpguard"  # where the checkout is in the machine


class Kernel(NamedTuple):
    """A kernel of Debian's. ``threads``: of qemu's emulator, `multi` for one per processor, or `single`."""

    package: str
    threads: str = "multi"


# The available kernels: a new one is a new line.
KERNELS = {
    "6.1": Kernel("linux-image-amd64"),
    # It changes instructions that another processor may be running when a program is loaded (bpf_dispatcher_xdp_func):
    # with a thread for each processor it crashed in floods, at a breakpoint that was gone already; with one it did not.
    "6.12": Kernel("linux-image-6.12-amd64", threads="single"),
}

_SUITE = "bookworm"
_SIZE = "8G"  # of the disk, which is sparse
_PACKAGES = (
    # The system.
    "systemd-sysv dbus libpam-systemd udev kmod procps iputils-ping openssh-server initramfs-tools zstd",
    # What netns-lab/setup installs, without the compilers of the tests of the verifier.
    "python3-bpfcc python3-venv linux-libc-dev netbase iproute2 ethtool nftables tshark",
)
# Modules of the initramfs; nothing else is needed before the disk is available.
_MODULES = "virtio_pci virtio_blk ext4 crc32c_generic"
_FILES = {
    "etc/hostname": "xdpguard-lab\n",
    "etc/fstab": "/dev/vda / ext4 noatime 0 1\n",
    "etc/systemd/network/10-lan.network": (
        "[Match]\nMACAddress=02:00:00:00:00:01\n[Link]\nRequiredForOnline=no\n"
        "[Network]\nAddress=198.18.0.1/24\nAddress=2001:2:0:18::1/64\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        "IPv6DuplicateAddressDetection=0\n[Route]\nGateway=198.18.0.2\nMetric=2048\n"
    ),
    "etc/systemd/network/20-manage.network": (
        "[Match]\nMACAddress=02:00:00:00:00:fe\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\n"
    ),
    "etc/ssh/sshd_config.d/lab.conf": "PermitRootLogin prohibit-password\nUseDNS no\n",
    # The host waits for this word on a dedicated port.
    "etc/systemd/system/lab-ready.service": (
        "[Unit]\nAfter=multi-user.target ssh.service systemd-networkd.service\n"
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo ready > /dev/virtio-ports/lab'\n"
        "[Install]\nWantedBy=multi-user.target\n"
    ),
}
_ENABLED = "systemd-networkd.service ssh.service lab-ready.service"
# Nobody sees them, and they take a good part of half a minute.
_MASKED = "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service man-db.timer fstrim.timer"


@dataclass(frozen=True)
class Image:
    """The files that a machine boots from, in one directory; and how qemu is to run it, see `Kernel`."""

    folder: Path
    threads: str

    @property
    def disk(self) -> Path:
        """A raw disk with one ext4 file system and no partitions."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        """The kernel's image."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initramfs."""
        return self.folder / "initrd.img"

    @property
    def key(self) -> Path:
        """The private key accepted for root's account."""
        return self.folder / "key"


def image(kernel: str) -> Image:
    """Return the image with that kernel, building it if it does not exist."""
    found = Image(FOLDER / f"debian12-{kernel}-{_digest(kernel)}", KERNELS[kernel].threads)
    if not found.folder.exists():
        for old in FOLDER.glob(f"debian12-{kernel}-*"):
            shutil.rmtree(old)
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix="making-") as folder:
            made = Path(folder, "image")
            made.mkdir()
            _make(Image(made, found.threads), kernel)
            made.rename(found.folder)
    return found


def _digest(kernel: str) -> str:
    parts = [Path(__file__).read_bytes(), (ROOT / "pyproject.toml").read_bytes(), KERNELS[kernel].package.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _make(made: Image, kernel: str) -> None:
    say(f"making a Debian 12 machine with {KERNELS[kernel].package}: a few minutes, once")
    root = made.folder.parent / "root"
    before = _script(made.folder / "before", f"printf '%s\\n' {_MODULES} > $1/etc/initramfs-tools/modules")
    # An initramfs of those modules is built once instead of for each package, and unpacks seconds faster.
    early = _script(
        made.folder / "early",
        "mkdir -p $1/etc/initramfs-tools/conf.d $1/etc/kernel",
        "echo 'MODULES=list' > $1/etc/initramfs-tools/conf.d/lab",
        "printf 'do_symlinks = no\\n' > $1/etc/kernel-img.conf",
    )
    line = [
        *("mmdebstrap", "--quiet", "--variant=apt", "--mode=root", "--format=directory", "--skip=check/empty"),
        f"--include={','.join([*' '.join(_PACKAGES).split(), KERNELS[kernel].package])}",
        '--aptopt=Apt::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{it}/*" for it in ("doc", "locale")),
        *(f"--essential-hook={early}", f"--customize-hook={before}"),
        *(_SUITE, str(root), *_sources()),
    ]
    _run(line)
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(made.key)])
    _furnish(root, made.key.with_suffix(".pub"))
    _python(root)
    version = next((root / "lib/modules").iterdir()).name
    say(f"its kernel is {version}")
    _chroot(root, f"update-initramfs -c -k {version} 2>/dev/null || update-initramfs -u -k {version}")
    shutil.copy(root / f"boot/vmlinuz-{version}", made.kernel)
    shutil.copy(root / f"boot/initrd.img-{version}", made.initrd)
    for script in (before, early):
        Path(script).unlink()
    say("its disk")
    _run(["truncate", "-s", _SIZE, str(made.disk)])
    _run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", str(root), str(made.disk)])


def _sources() -> list[str]:
    """Return the files that name this host's Debian archives, from which the machine's packages come too."""
    found = [
        path
        for path in (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
        if path.is_file() and _SUITE in path.read_text(encoding="utf-8")
    ]
    if not found:
        sys.exit(f"kernels: no archive of Debian's {_SUITE} in /etc/apt; this needs a host with Debian 12")
    return [str(path) for path in found]


def _furnish(root: Path, key: Path) -> None:
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    folder = root / "root/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key, folder / "authorized_keys")
    _chroot(root, f"systemctl enable -q {_ENABLED}; systemctl mask -q {_MASKED}; : > /etc/machine-id")


def _python(root: Path) -> None:
    """Create the virtual environment of netns-lab/setup where the checkout will be."""
    say("its Python packages")
    wheels = root / "root/wheels"
    source = root / SOURCE[1:]
    source.mkdir()
    _copy_tree(source)
    needed = ["hatchling", "editables", f"{source}[test]"]
    download = [sys.executable, "-m", "pip", "--quiet", "download", "--only-binary=:all:", "--dest", str(wheels)]
    if platform.python_version_tuple()[:2] != ("3", "11"):
        download += ["--python-version", "3.11"]
    _run([*download, *needed])
    install = f"{SOURCE}/.venv/bin/python -m pip --quiet install --no-index --find-links /root/wheels"
    _chroot(
        root,
        f"python3 -m venv --system-site-packages {SOURCE}/.venv",
        f"{install} --editable '{SOURCE}[test]'",
        f"cp {SOURCE}/pyproject.toml {SOURCE}/.venv/ready-test",
        "rm -r /root/wheels",
    )


def _copy_tree(to: Path) -> None:
    with subprocess.Popen(tree_archive(), stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-xz", "-C", str(to)], stdin=archive.stdout, check=True)


def tree_archive() -> list[str]:
    """Return the command that writes the checkout's current files to standard output as a compressed tar."""
    listed = "git ls-files -z --cached --others --exclude-standard | tar -cz --null --files-from=- --ignore-failed-read"
    return ["sh", "-c", f"cd {shlex.quote(str(ROOT))} && {listed}"]


def _chroot(root: Path, *commands: str) -> None:
    script = "\n".join(["set -e", "export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root", *commands])
    _run(["chroot", str(root), "sh", "-c", script])


def _script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", "set -e", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def _run(line: list[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-4000:])
        sys.exit(f"kernels: {line[0]} failed with exit code {done.returncode}")


def say(text: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
