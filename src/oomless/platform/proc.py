"""Linux ``/proc``, pidfds and prctl(2) with the standard library alone.

Signals are only sent through a pidfd whose process was verified by its start time. A stat read costs about 15 us and
a read of the table 1.4 ms at 90 processes. Entries vanish while they are read: that is never an error here, the
process is just not in the answer.
"""

from __future__ import annotations

import os
import sys
import time

assert sys.platform == "linux"

from oomless.lean import call_c, signal
from oomless.platform.files import read_file as read_file

SENT, GONE, DENIED = "sent", "gone", "denied"
PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_FORKED_ONLY = 0x40
#: The same number on every architecture since Linux 5.3 (include/uapi/asm-generic/unistd.h), but for alpha.
_SYS_CLONE3, _CLONE_INTO_CGROUP, _SIGCHLD = 435, 0x200000000, 17


class Stat:
    """One line of ``/proc/N/stat``. ``start`` is in clock ticks since boot, ``rss_pages`` in pages,
    ``cpu_ticks`` user and system time together; ``state`` is one letter (``Z``: zombie)."""

    __slots__ = ("comm", "cpu_ticks", "pgid", "pid", "ppid", "rss_pages", "sid", "start", "state", "tty")

    def __init__(self, raw: bytes) -> None:
        # The name may hold spaces and parentheses: the fields start after the last ')'.
        left, right = raw.index(b"("), raw.rindex(b")")
        fields = raw[right + 2 :].split()
        self.pid = int(raw[:left])
        self.comm = raw[left + 1 : right].decode("utf-8", "replace")
        self.state = chr(fields[0][0])
        self.ppid, self.pgid, self.sid, self.tty = (int(f) for f in fields[1:5])
        self.cpu_ticks = int(fields[11]) + int(fields[12])
        self.start = int(fields[19])
        self.rss_pages = int(fields[21])

    @property
    def alive(self) -> bool:
        """False for a zombie or a corpse: it holds no memory and cannot be signalled any more."""
        return self.state not in "ZX"

    @property
    def rss_bytes(self) -> int:
        return self.rss_pages * PAGE


def read_stat(pid: int) -> Stat | None:
    raw = read_file(f"/proc/{pid}/stat")
    try:
        return Stat(raw) if raw else None
    except (ValueError, IndexError):
        return None


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name[0] in "123456789" and name.isdigit()]


def table() -> dict[int, Stat]:
    """The whole process table, zombies included, by pid."""
    stats: dict[int, Stat] = {}
    for pid in pids():
        stat = read_stat(pid)
        if stat is not None:
            stats[pid] = stat
    return stats


def children_of(pid: int) -> list[int]:
    """Direct children by the kernel's own list, or by the table where it keeps none (CONFIG_PROC_CHILDREN)."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    pids: list[int] = []
    for task in tasks:
        raw = read_file(f"/proc/{pid}/task/{task}/children")
        if raw is None and not os.path.exists("/proc/self/task/self/children"):
            return [stat.pid for stat in table().values() if stat.ppid == pid]
        pids += [int(child) for child in (raw or b"").split()]
    return pids


def start_of(pid: int) -> int | None:
    stat = read_stat(pid)
    return stat.start if stat else None


def start_of_age(seconds: float) -> float:
    """Processes that started after it are younger than so many seconds. In clock ticks since boot."""
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - seconds) * os.sysconf("SC_CLK_TCK")


def last_pid() -> int:
    """The pid that was given out last (proc_loadavg(5)), to any process or thread of the PID namespace; 0 if it
    cannot be read. While it stays the same, no process is born."""
    fields = (read_file("/proc/loadavg") or b"").split()
    return int(fields[4]) if len(fields) > 4 else 0


def boot_id() -> str:
    raw = read_file("/proc/sys/kernel/random/boot_id")
    return raw.decode().strip() if raw else ""


def environ(pid: int) -> bytes:
    """The initial environment block, NUL between entries; empty if it is not ours to read. Holds secrets:
    look for a mark in it and let it go, never store or print it."""
    return read_file(f"/proc/{pid}/environ") or b""


def forget_coerced_locale() -> None:
    """Where the locale is C, Python sets LC_CTYPE for itself and all that it starts (PEP 538), in isolated mode too.
    To be called before exec, so that a command finds the environment that we were given."""
    if "LC_CTYPE" in os.environ and b"\0LC_CTYPE=" not in b"\0" + environ(os.getpid()):
        del os.environ["LC_CTYPE"]


def has_executed(pid: int) -> bool:
    """Whether it has become another program since it was forked (proc(5): field 9; include/linux/sched.h,
    PF_FORKNOEXEC); False if it is gone."""
    raw = read_file(f"/proc/{pid}/stat") or b""
    fields = raw[raw.rfind(b")") + 2 :].split()
    return len(fields) > 6 and not int(fields[6]) & _FORKED_ONLY


def signals(pid: int, *fields: bytes) -> int:
    """Those that are blocked, pending or caught, by the names of fields in its status: bit 0 is signal 1."""
    mask = 0
    for line in (read_file(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(fields):
            mask |= int(line.split()[1], 16)
    return mask


def ignores_hangup(pid: int) -> bool:
    return bool(signals(pid, b"SigIgn:") >> (signal.SIGHUP - 1) & 1)


def dying(stat: Stat) -> bool:
    """Whether it has been killed and has only not come to it: SIGKILL is pending and nothing uninterruptible holds
    it, or its memory is gone already and its exit waits for a lock of the kernel's. Measured: 8 s at a load of 90."""
    if signals(stat.pid, b"SigPnd", b"ShdPnd") & 1 << (signal.SIGKILL - 1):
        return stat.state != "D"
    return b"\nVmSize:" not in (read_file(f"/proc/{stat.pid}/status") or b"")


def raw_cmdline(pid: int) -> bytes:
    """NUL after each argument."""
    return read_file(f"/proc/{pid}/cmdline") or b""


def cmdline(pid: int) -> list[str]:
    """The arguments; empty for kernel threads, zombies and processes that are gone."""
    raw = raw_cmdline(pid)
    return [part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0")] if raw else []


def cgroups(pid: int | str) -> dict[str, str]:
    """``{"memory": "/a/b", "pids": "/a", "": "/c"}``: path per v1 controller, ``""`` for the v2 tree."""
    groups: dict[str, str] = {}
    for line in (read_file(f"/proc/{pid}/cgroup") or b"").decode("utf-8", "replace").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def owner_uid(pid: int) -> int | None:
    """The effective user of a process, dumpable or not (fs/proc/base.c, task_dump_owner); None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def real_uid(pid: int) -> int | None:
    """The real user, also where the process cannot be dumped and its files belong to root (proc(5))."""
    for line in (read_file(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def cwd(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def namespace(pid: int | str, kind: str) -> str:
    """Its ``pid``, ``cgroup``, ``net``, ... namespace; "" if it is gone, or not ours to look at."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def own_descriptors() -> list[int]:
    """The open descriptors of this process."""
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    return [fd for fd in numbers if _is_open(fd)]  # the listing's own is closed by now


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
        return True
    except OSError:
        return False


def mount_id(fd: int) -> int | None:
    """The mount that an open file of ours is on (fdinfo has it since Linux 3.15)."""
    for line in (read_file(f"/proc/self/fdinfo/{fd}") or b"").splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return None


def change_mode(fd: int, mode: int) -> None:
    """chmod(2) of a folder that is open by O_PATH only, which fchmod refuses; raises OSError."""
    os.chmod(f"/proc/self/fd/{fd}", mode)


def oom_score_adj() -> int | None:
    raw = (read_file("/proc/self/oom_score_adj") or b"").strip()
    return int(raw) if raw.lstrip(b"-").isdigit() else None


def set_oom_score_adj(value: int) -> None:
    """How readily the kernel's OOM killer takes this process and its later children, -1000 to 1000; raises
    OSError."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def open_verified(pid: int, start: int) -> int | None:
    """A pidfd (close it) of the process ``pid`` that started at ``start`` ticks, or None if that one is gone.

    The order matters: a start time read after ``pidfd_open`` can only be that of the process the pidfd names,
    or of a later one under the same pid, in which case it differs (proc(5): field 22; pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return None
    os.set_inheritable(fd, False)
    if start_of(pid) == start:
        return fd
    os.close(fd)
    return None


def send(pid: int, start: int, number: int) -> str:
    """Signals that very process and no other: ``sent``, ``gone``, or ``denied`` (another user's)."""
    fd = open_verified(pid, start)
    if fd is None:
        return GONE
    try:
        signal.pidfd_send_signal(fd, number)
        return SENT
    except ProcessLookupError:
        return GONE
    except PermissionError:
        return DENIED
    finally:
        os.close(fd)


def kill(pid: int, start: int) -> str:
    return send(pid, start, signal.SIGKILL)


def become_subreaper() -> bool:
    """Orphaned descendants of this process become its children from now on (prctl(2))."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def fork_into(cgroup: str) -> int:
    """fork(2) of a process with one thread, whose child is born in that directory of the v2 tree (clone3(2), Linux
    5.7). Raises OSError where the kernel does not offer that, or refuses it to this user; then nothing was forked.

    A process that moves into a group by itself makes the kernel wait for all processors: 8 to 16 ms, against 0.3.
    Python's own work after a fork concerns other threads only, and is left out."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fields = (_CLONE_INTO_CGROUP, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, fd)
        arguments = b"".join(field.to_bytes(8, sys.byteorder) for field in fields)
        pid = call_c("syscall", _SYS_CLONE3, arguments, len(arguments))
    finally:
        os.close(fd)
    if pid < 0:
        raise OSError(95, "cannot fork into a cgroup", cgroup)
    return pid


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the thread that forked it ends; kept over exec, not inherited (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def name_self(name: str) -> None:
    """What ``ps -o comm`` and ``top`` show of this process; 15 characters at most."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> bool:
    return call_c("prctl", option, value, 0, 0, 0) == 0
