"""The job log of a batch: a tab-separated line for each job when it is over, with the columns of GNU parallel's
``--joblog`` that apply here (all but Host, Send and Receive). Secrets in commands are masked.

Each command writes it anew, jobs done in an earlier run included, so it is whole even if the earlier command was
killed.
"""

from __future__ import annotations

import shlex
from typing import TextIO

from oomless.engines.base import Finished
from oomless.engines.batch_file import Job
from oomless.errors import UsageError
from oomless.redact import mask_secrets

COLUMNS = ("Seq", "Name", "Starttime", "Seconds", "Exitval", "Signal", "Status", "Peak", "Attempts", "Command")
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})


class JobLog:
    """Raises UsageError if the file cannot be opened, before anything has run. A disk that is full later does not
    stop the batch; ``problem`` then names it."""

    def __init__(self, path: str) -> None:
        try:
            self._file: TextIO = open(path, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"cannot write the job log {path}", error.strerror or str(error)) from None
        self.problem = ""
        self._write_line(*COLUMNS)

    def add(self, seq: int, job: Job, finished: Finished) -> None:
        result = finished.result
        self._write_line(
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

    def _write_line(self, *fields: object) -> None:
        try:
            self._file.write("\t".join(str(field).translate(_ESCAPES) for field in fields) + "\n")
        except OSError as error:
            self.problem = error.strerror or str(error)
