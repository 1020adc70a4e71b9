"""The disk images of ``make test-vm``: small Debian systems with systemd as pid 1, made once and kept.

Covers: which Debian, what is installed, how it is set up (an ordinary user whose user manager lingers, a unit that
runs what it is handed, a power-off after it), and the cache: ``~/.cache/oomless/vm/NAME-HASH/`` with ``disk``,
``kernel`` and ``initrd``, where the hash is that of this recipe. Not here: booting (``boot.py``) and what is run
(``guest.py``). Needs root, ``debootstrap`` and ``mke2fs``; mounts no image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

#: By name of the release: the Python it has.
RELEASES = {"bookworm": "3.11", "trixie": "3.13"}
USER, UID = "tester", 1000
SIZE = "900M"

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "python3",
    "procps",
    "linux-image-cloud-amd64",
    "initramfs-tools",
)
#: Read from the second disk, written to the third; both are raw tars.
UNIT = f"""[Unit]
Description=What this machine was started for
Requires=user@{UID}.service
After=user@{UID}.service multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
WorkingDirectory=/payload
ExecStartPre=/bin/tar -xf /dev/vdb -C /payload
ExecStart=/usr/bin/python3 /payload/tests/vm/guest.py
StandardOutput=journal+console
"""
#: The initramfs needs what finds the disk, and no more (it is loaded by an emulated CPU).
HOOK = """#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk ext4
"""
FILES = {
    "etc/systemd/system/payload.service": (UNIT, 0o644),
    "etc/initramfs-tools/conf.d/small": ("MODULES=list\nCOMPRESS=gzip\n", 0o644),
    "etc/initramfs-tools/hooks/small": (HOOK, 0o755),
    "etc/fstab": ("", 0o644),
    "etc/hostname": ("guest\n", 0o644),
}


class Image:
    def __init__(self, folder: Path) -> None:
        self.disk, self.kernel, self.initrd = (folder / name for name in ("disk", "kernel", "initrd"))


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oomless" / "vm"


def recipe(release: str) -> str:
    """Changes whenever what is made below would be another thing."""
    return hashlib.sha256(release.encode() + Path(__file__).read_bytes()).hexdigest()[:16]


def image(release: str) -> Image:
    """The one from the cache, made first if need be; older ones of that release are removed."""
    folder = cache() / f"{release}-{recipe(release)}"
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        for old in cache().glob(f"{release}-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as made:
            make(release, Path(made))
            os.rename(made, folder)
            os.mkdir(made)
    return Image(folder)


def make(release: str, folder: Path) -> None:
    root = folder / "root"
    root.mkdir()
    for name, (text, mode) in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    include = f"--include={','.join(PACKAGES)}"
    run("debootstrap", "--variant=minbase", include, release, str(root), source())
    set_up(root)
    for name, kept in (("vmlinuz-*", "kernel"), ("initrd.img-*", "initrd")):
        shutil.move(next((root / "boot").glob(name)), folder / kept)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(folder / "disk"), SIZE)
    shutil.rmtree(root)


def set_up(root: Path) -> None:
    run("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/sh", "--uid", str(UID), USER)
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / "payload.service").symlink_to("../payload.service")
    (root / "var/lib/systemd/linger").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/systemd/linger" / USER).touch()
    (root / "etc/machine-id").write_text("")
    (root / "payload").mkdir()
    for unwanted in ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / unwanted)


def source() -> str:
    """Where apt has its packages from here."""
    wanted = ["--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    found = subprocess.run(["apt-get", "indextargets", *wanted], check=True, capture_output=True, text=True)
    places = [line for line in found.stdout.split() if "security" not in line]
    if not places:
        raise RuntimeError("apt has no source of Debian packages here")
    return places[0]


def run(*command: str) -> None:
    """Quiet unless it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
