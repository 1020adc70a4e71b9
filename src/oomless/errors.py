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

Standard library only: the shim and the fast commands import it. Printing is the caller's business
(``cli/output.py``); this module only words the line: ``oomless: <what>; <why>; <what to do>``.
"""

from __future__ import annotations


class OomlessError(Exception):
    """What happened, why, and what to do about it; the last two may be empty."""

    exit_code = 125

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        super().__init__(what, why, todo)
        self.what = what
        self.why = why
        self.todo = todo

    def line(self) -> str:
        """The one line for stderr, without a trailing newline."""
        return "oomless: " + "; ".join(" ".join(part.split()) for part in (self.what, self.why, self.todo) if part)

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
