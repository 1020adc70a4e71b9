"""PID namespaces of Linux: leaving for new ones, a ``/proc`` that shows only the new one, and which switch of the
kernel forbids it. ``os.unshare`` came with Python 3.12, and mounts never. Standard library only.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.lean import call_c_for_errno
from oomless.platform import proc

#: Of <sched.h> and <sys/mount.h>.
_NEW_MOUNTS, _NEW_USER, _NEW_PIDS = 0x00020000, 0x10000000, 0x20000000
_NOSUID, _NODEV, _NOEXEC, _RECURSIVE, _SLAVE = 2, 4, 8, 1 << 14, 1 << 19
_CAP_SYS_ADMIN = 21
#: Switches below /proc/sys that forbid what ``leave`` does, and at which value. Ubuntu has the last since 23.10.
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", b"0"),
    ("user/max_user_namespaces", b"0"),
    ("user/max_pid_namespaces", b"0"),
    ("kernel/apparmor_restrict_unprivileged_userns", b"1"),
)


class NamespaceRefused(OSError):
    """``what`` the kernel would not do."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, f"{os.strerror(number)}, {what}")
        self.what = what


def privileged() -> bool:
    """Whether this process may make PID namespaces without a user namespace around them."""
    return bool(proc.signals(os.getpid(), b"CapEff:") >> _CAP_SYS_ADMIN & 1)


def leave() -> None:
    """The next child is the first process of a new PID namespace and the later ones are in it too; this process gets
    mounts of its own and, unless it is privileged, a user namespace in which it is the user and group that it was.
    Only in a process with one thread. Raises NamespaceRefused."""
    if privileged():
        _call("unshare", "to make a PID namespace", _NEW_PIDS | _NEW_MOUNTS)
        return
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", "to make a user namespace", _NEW_USER | _NEW_PIDS | _NEW_MOUNTS)
    # user_namespaces(7): an ordinary user maps itself only, and groups only once it cannot drop any.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        _write(f"/proc/self/{name}", text)


def own_proc() -> None:
    """In the first process of the namespace: ``/proc`` shows it and no other, for all that share our mounts, and
    what is mounted here stays here. Raises NamespaceRefused."""
    _call("mount", "to keep mounts apart", b"none", b"/", None, _RECURSIVE | _SLAVE, None)
    _call("mount", "to mount a /proc of its own", b"proc", b"/proc", b"proc", _NOSUID | _NODEV | _NOEXEC, None)


def forbidden_by(root: str = "/proc/sys") -> str:
    """The switch that is set against it, as sysctl(8) names it, or ""."""
    for path, value in _SWITCHES:
        if (proc.read_file(f"{root}/{path}") or b"").strip() == value:
            return f"{path.replace('/', '.')} is {value.decode()}"
    return ""


def _write(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise NamespaceRefused(error.errno or 1, "to stay the same user in a user namespace") from None


def _call(name: str, what: str, *arguments: int | bytes | None) -> None:
    number = call_c_for_errno(name, *arguments)
    if number:
        raise NamespaceRefused(number, what)
