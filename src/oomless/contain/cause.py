"""Why a tree ends, as its record and its caller are tells_freed: status, exit code and one line.

Pure but for the search along PATH. Standard library only, on every system.
"""

from __future__ import annotations

import errno
import os

from oomless.lean import name_of, signal


class StartFailed(OSError):
    """``stage``: ``tmp`` (no TMPDIR), ``enter`` (the rung would not take the command) or ``exec``."""

    def __init__(self, stage: str, number: int, text: str = "") -> None:
        super().__init__(number, text or os.strerror(number))
        self.stage = stage


class Cause:
    """``status`` and ``code`` as in the exit record, ``reason`` one line or "", ``signal`` that killed the root,
    ``at_once``: no grace, KILL comes first. ``by_owner``: the owner of the tree did it, and knows.
    ``used``: bytes when it was decided, where known. ``since``: when (monotonic) the offence began.
    ``tells_freed``: the reason tells what was freed. ``victim``: it is killed for a budget shared with others."""

    __slots__ = (
        "at_once",
        "by_owner",
        "code",
        "reason",
        "signal",
        "since",
        "status",
        "tells_freed",
        "used",
        "victim",
    )

    def __init__(
        self,
        status: str,
        code: int,
        reason: str = "",
        signal: int | None = None,
        at_once: bool = False,
        by_owner: bool = False,
        used: int | None = None,
        since: float | None = None,
        tells_freed: bool = False,
        victim: bool = False,
    ) -> None:
        self.status = status
        self.code = code
        self.reason = reason
        self.signal = signal
        self.at_once = at_once
        self.by_owner = by_owner
        self.used = used
        self.since = since
        self.tells_freed = tells_freed
        self.victim = victim


def from_signal(number: int) -> Cause:
    return Cause("killed", 128 + number, f"ended by {name_of(number)}", number, by_owner=True)


def resolve(cause: Cause | None, status: int, hosted: bool = False) -> Cause:
    """The final cause, of the root's wait status and our own reason to end the tree. A command that ended by itself
    within the grace after TERM or HUP keeps its own exit code; after Ctrl-C it is 130 always, but for a host's
    (``hosted``), which stops its servers by INT first."""
    own = from_exit(status)
    if cause is None:
        return own
    forwarded = cause.signal in (signal.SIGTERM, signal.SIGHUP) or (hosted and cause.signal == signal.SIGINT)
    return own if forwarded and own.signal is None else cause


def from_exit(status: int) -> Cause:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Cause("failed", 128 + number, "", number)
    code = os.WEXITSTATUS(status)
    return Cause("done" if code == 0 else "failed", code)


def not_started(error: OSError, command: str) -> Cause:
    number = error.errno or 0
    stage = error.stage if isinstance(error, StartFailed) else ""
    if stage == "tmp":
        return Cause("failed", 125, f"cannot make its TMPDIR; {error.strerror}; or leave out --private-tmp")
    if stage != "exec":
        return Cause("failed", 125, f"cannot contain {command!r}; {error.strerror}; see oomless doctor")
    if number in (errno.ENOENT, errno.ENOTDIR) or not command_exists(command):
        return Cause("failed", 127, f"cannot run {command!r}; there is no such command; check its name and PATH")
    return Cause("failed", 126, f"cannot run {command!r}; {error.strerror}; check that it is executable")


def command_exists(command: str) -> bool:
    """Whether there is a file of that name on PATH: a folder on PATH that cannot be searched makes exec say EACCES
    for one that is not anywhere, where a shell says that there is none."""
    folders = [""] if "/" in command else os.get_exec_path()
    return any(os.path.isfile(os.path.join(folder, command)) for folder in folders)
