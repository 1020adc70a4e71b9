"""Boots an image under qemu, hands a folder in and takes one out, without a network and without mounting anything.

Covers: qemu's command line, payload and results (tars on two raw disks), the time-out. Not here: what is on the image
(``image.py``), what runs in the guest (``guest.py``), and what it means (``__main__.py``). The CPU is emulated: where
these machines run, ``/dev/kvm`` may exist and boot nothing.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .image import Image

MEMORY = "2048"
RESULTS_SIZE = 32 << 20
#: ``ConditionFirstBoot`` and the like must not ask anything; the kernel says nothing but its last words.
KERNEL_LINE = "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.firstboot=off"


class GuestFailed(Exception):
    pass


def boot(image: Image, payload: Path, folder: Path, seconds: float) -> Path:
    """The folder with what the guest left in ``/results``. ``folder`` is for our own files; raises GuestFailed with
    the end of the console if there is nothing."""
    disk, console = folder / "results.tar", folder / "console"
    with disk.open("wb") as file:
        file.truncate(RESULTS_SIZE)
    try:
        subprocess.run(command(image, payload, disk, console), stdin=subprocess.DEVNULL, timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        raise GuestFailed(f"the guest was not done in {seconds:g} s{last_words(console)}") from None
    except subprocess.CalledProcessError as error:
        raise GuestFailed(f"qemu failed with {error.returncode}{last_words(console)}") from None
    found = folder / "results"
    try:
        with tarfile.open(disk, "r:") as tar:
            tar.extractall(found, filter="data")
    except tarfile.TarError:
        raise GuestFailed(f"the guest left no results{last_words(console)}") from None
    return found


def command(image: Image, payload: Path, results: Path, console: Path) -> list[str]:
    fixed = "-machine pc -accel tcg,thread=multi -cpu qemu64 -smp 2 -nodefaults -nic none -display none -no-reboot"
    drives = [(image.disk, ",snapshot=on"), (payload, ",read-only=on"), (results, "")]
    return [
        "qemu-system-x86_64",
        *fixed.split(),
        *("-m", MEMORY, "-device", "virtio-rng-pci", "-serial", f"file:{console}"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", KERNEL_LINE),
        *(word for file, how in drives for word in ("-drive", f"file={file},format=raw,if=virtio{how}")),
    ]


def pack(tar: Path, content: dict[str, Path]) -> None:
    """Folders and files by their names in the guest's ``/payload``."""
    with tarfile.open(tar, "w") as out:
        for name, path in content.items():
            out.add(path, name, filter=_wanted)


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def last_words(console: Path) -> str:
    text = console.read_text("utf-8", "replace") if console.exists() else ""
    return "; its console ended with:\n" + text[-3000:]
