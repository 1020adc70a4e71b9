"""Every exception that oomless raises on purpose, each with the exit code of the command contract.

::

    OomlessError                125  oomless itself failed
    ├── UsageError                2  an option, value or file that cannot be used
    │   ├── ConfigError           2  a settings file, named by file and line
    │   └── BatchFileError        2  a batch file, named by file and line
    ├── Refused                  75  no memory for it now (or ever): try again
    ├── NotRunnable             126  the command exists and cannot be executed
    ├── CommandNotFound         127  there is no such command
    ├── Interrupted             130  Ctrl-C
    ├── StateUnwritable         125  the state folder cannot be made or written
    ├── JournalError            125  the journal cannot be opened or written
    ├── DaemonError             125  the daemon does not start, answer or understand
    │   └── DaemonGone          125  it went away in mid-conversation: ask the next one
    ├── ContainmentError        125  a tree cannot be contained
    └── UnsupportedPlatform     125  no code for this operating system

Standard library only: the shim and the fast commands import it. An error is printed as two lines::

    oomless: error: <what>: <why>
    hint: <what to do>
"""

from __future__ import annotations


class OomlessError(Exception):
    """``what`` happened, ``why``, and a ``hint`` at what to do; the last two may be empty."""

    exit_code = 125

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what, self.why, self.hint = (" ".join(part.split()) for part in (what, why, hint))

    def summary(self) -> str:
        """``<what>: <why>``, on one line."""
        return f"{self.what}: {self.why}" if self.why else self.what

    def line(self) -> str:
        """``<what>: <why>; <hint>``, on one line: for logs and ``--json``."""
        return f"{self.summary()}; {self.hint}" if self.hint else self.summary()

    def report(self) -> str:
        """The lines for stderr, without the last newline."""
        error = f"oomless: error: {self.summary()}"
        return f"{error}\nhint: {self.hint}" if self.hint else error

    __str__ = line


class UsageError(OomlessError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class BatchFileError(UsageError):
    pass


class Refused(OomlessError):
    exit_code = 75


class NotRunnable(OomlessError):
    exit_code = 126


class CommandNotFound(OomlessError):
    exit_code = 127


class Interrupted(OomlessError):
    exit_code = 130


class StateUnwritable(OomlessError):
    pass


class JournalError(OomlessError):
    pass


class DaemonError(OomlessError):
    pass


class DaemonGone(DaemonError):
    pass


class ContainmentError(OomlessError):
    pass


class UnsupportedPlatform(OomlessError):
    pass
