"""The folder of one batch, ``<state>/batches/<id>/``, which makes ``--resume`` possible after any end.

Each job has ``NNN.intent.json`` (written before its shim is spawned, completed with the shim's identity after it),
``NNN.json`` (the shim's record), ``NNN.out`` and ``NNN.err``. All folders are kept that ``--resume`` can still need,
and the newest of the finished ones. Nothing is synced to disk: no job outlives a power cut, and if its record is lost
with it, the job runs again.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import fcntl
import hashlib
import os
import shutil

import msgspec

from oomless import atomicfile
from oomless.engines.batch_file import BatchFile
from oomless.engines.launch import ShimHandle
from oomless.errors import StateUnwritable, UsageError
from oomless.paths import Paths
from oomless.platform import files, proc
from oomless.processes import ours
from oomless.processes.ids import ProcessId

FINISHED = "finished"
#: Finished batches that are kept.
KEPT = 50


class JobIntent(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of a job. ``pid`` is 0 until the shim is spawned."""

    tree: str
    attempt: int
    pid: int = 0
    start: int = 0
    boot_id: str = ""


def make_batch_id(file: BatchFile) -> str:
    """The same for the same content at the same place, so that ``--resume`` finds it; new for standard input."""
    if file.source == "-":
        return os.urandom(8).hex()
    return hashlib.sha256(os.fsencode(file.source) + b"\0" + file.content).hexdigest()[:16]


class BatchFolder:
    """Holds the batch's lock from ``open`` to ``close``."""

    def __init__(self, folder: str, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def open(cls, paths: Paths, batch: str) -> BatchFolder:
        """Raises UsageError if another command runs this very batch."""
        paths.make()
        folder = os.path.join(paths.batches, batch)
        lock = None
        while lock is None:
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                lock = _take_lock(folder)
            except BlockingIOError:
                pid = (files.read(os.path.join(folder, "lock")) or "unknown").strip()
                raise UsageError(f"this batch is already running as pid {pid}", "", "wait for it") from None
            except OSError as error:
                raise _unwritable(folder, error) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        atomicfile.remove(os.path.join(folder, FINISHED))
        return cls(folder, lock)

    def finish(self) -> None:
        """Notes that nothing of it is left to be taken over. If that cannot be written, the folder is just kept."""
        try:
            with open(os.path.join(self.folder, FINISHED), "wb"):
                pass
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._lock)

    def path(self, seq: int, kind: str) -> str:
        """``kind``: ``json`` (the record), ``intent.json``, ``out`` or ``err``."""
        return os.path.join(self.folder, f"{seq + 1:03}.{kind}")

    def read_intent(self, seq: int) -> JobIntent | None:
        try:
            return msgspec.json.decode(proc.read_file(self.path(seq, "intent.json")) or b"", type=JobIntent)
        except msgspec.DecodeError:
            return None

    def write_intent(self, seq: int, intent: JobIntent) -> None:
        """Atomic; raises StateUnwritable (a full disk), and then nothing may be started."""
        path = self.path(seq, "intent.json")
        try:
            atomicfile.write(path, msgspec.json.encode(intent))
        except OSError as error:
            raise _unwritable(path, error) from None

    def open_output(self, seq: int, kind: str) -> int:
        """A descriptor; the output of an earlier attempt is removed."""
        path = self.path(seq, kind)
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from None

    def find_shim(self, intent: JobIntent) -> ShimHandle | None:
        """The shim of this attempt, if it lives."""
        if intent.pid and intent.boot_id == proc.boot_id():
            return ShimHandle.open(intent.tree, ProcessId(intent.pid, intent.start))
        return None if intent.pid else find_shim(intent.tree)

    def clear(self) -> None:
        """Drops what an earlier run left; raises UsageError if some of its jobs still run."""
        if living := self.count_living():
            why = f"{living} of its jobs still run, because its command was killed"
            raise UsageError("this batch was not finished", why, "take them over with --resume")
        for name in os.listdir(self.folder):
            if name == "lock":
                continue
            try:
                os.unlink(os.path.join(self.folder, name))
            except OSError as error:
                raise _unwritable(os.path.join(self.folder, name), error) from None

    def drop_record(self, seq: int) -> None:
        """Drops the record of an attempt that does not count."""
        atomicfile.remove(self.path(seq, "json"))

    def count_living(self) -> int:
        """The number of its jobs that still run."""
        living = 0
        for name in os.listdir(self.folder):
            number, _, kind = name.partition(".")
            intent = self.read_intent(int(number) - 1) if kind == "intent.json" else None
            shim = self.find_shim(intent) if intent else None
            if shim is not None:
                living += 1
                shim.release()
        return living


def prune_batches(paths: Paths, kept: int = KEPT) -> None:
    """Removes all but the newest ``kept`` finished batches. One that runs has its lock taken; one that was
    interrupted, or whose command was killed, is not finished."""
    finished = []
    for folder in _list_folders(paths.batches):
        try:
            finished.append((os.stat(os.path.join(folder, FINISHED)).st_mtime_ns, folder))
        except OSError:
            continue
    for _, folder in sorted(finished, reverse=True)[kept:]:
        _remove_folder(folder)


def _list_folders(batches: str) -> list[str]:
    try:
        return [os.path.join(batches, name) for name in os.listdir(batches)]
    except OSError:
        return []


def _remove_folder(folder: str) -> None:
    """Under its lock, and renamed first, so that a command that wants the batch meanwhile makes a new one."""
    try:
        lock = _take_lock(folder)
    except OSError:
        return
    if lock is None:
        return
    away = f"{folder}.{os.getpid()}"
    try:
        if not BatchFolder(folder, lock).count_living():
            os.rename(folder, away)
            shutil.rmtree(away, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(lock)


def _take_lock(folder: str) -> int | None:
    """The lock of a batch, open and taken; None if the folder has been removed meanwhile. Raises BlockingIOError if
    another command has it, and OSError."""
    path = os.path.join(folder, "lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(lock).st_ino:
            return lock
    except FileNotFoundError:
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def find_shim(tree: str) -> ShimHandle | None:
    """The shim of a tree by its arguments, where the command was killed between spawning and noting its identity."""
    for pid, stat in proc.table().items():
        if stat.alive and ours.is_shim_of(proc.cmdline(pid), tree) and proc.owner_uid(pid) == os.geteuid():
            return ShimHandle.open(tree, ProcessId(pid, stat.start))
    return None


def _unwritable(path: str, error: OSError) -> StateUnwritable:
    why = error.strerror or str(error)
    return StateUnwritable(f"cannot write {path}", why, "free disk space, or set XDG_STATE_HOME")
