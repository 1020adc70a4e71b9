"""The exit record of a tree as a file: complete or not there, never half. The fields are those of
``model.ExitRecord``. Standard library only."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Record = dict[str, object]


def write(path: str, record: Record) -> OSError | None:
    """Atomic by rename; the error if it could not be written. Not synced: no process outlives a power cut, so
    the journal closes such trees by their boot id."""
    draft = f"{path}.{os.getpid()}.new"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(record, file)
            file.write("\n")
        os.rename(draft, path)
        return None
    except OSError as error:
        try:
            os.unlink(draft)
        except OSError:
            pass
        return error
