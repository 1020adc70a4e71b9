"""The job log of a batch: a line for each job at its end, tab-separated, with the columns of GNU parallel's
``--joblog`` where both know them (Host, Send and Receive have no meaning here).
Secrets in commands are mask_secrets.

It is written anew by each command, jobs done in an earlier run included, so that it is whole even if the earlier
command was killed.
"""

from __future__ import annotations

import shlex
from typing import TextIO

from oomless.engines.base import Finished
from oomless.engines.jobs import Job
from oomless.errors import UsageError
from oomless.redact import mask_secrets

COLUMNS = ("Seq", "Name", "Starttime", "Seconds", "Exitval", "Signal", "Status", "Peak", "Attempts", "Command")
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})


class JobLog:
    """Raises UsageError if the file cannot be opened: before anything has run. A disk that is full later does not
    stop the batch: ``problem`` then says so."""

    def __init__(self, path: str) -> None:
        try:
            self._file: TextIO = open(path, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"cannot write the job log {path}", error.strerror or str(error)) from None
        self.problem = ""
        self._line(*COLUMNS)

    def add(self, seq: int, job: Job, finished: Finished) -> None:
        result = finished.result
        self._line(
            seq + 1,
            job.name,
            f"{finished.started_at:.3f}",
            f"{result.seconds:.3f}",
            result.exit_code,
            finished.signal or 0,
            result.status,
            result.peak_bytes,
            result.attempts,
            shlex.join(mask_secrets(job.command)),
        )

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _line(self, *fields: object) -> None:
        try:
            self._file.write("\t".join(str(field).translate(_ESCAPES) for field in fields) + "\n")
        except OSError as error:
            self.problem = error.strerror or str(error)
