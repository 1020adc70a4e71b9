"""The exit record of a tree as a file: complete or not there, never half. The fields are those of
``model.ExitRecord``. Standard library only."""

from __future__ import annotations

import sys
import time

assert sys.platform == "linux"

from oomless.lean import dumps
from oomless.platform import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.contain.ending import Cause
    from oomless.contain.shim import Shim

    Record = dict[str, object]


def compose(shim: Shim, cause: Cause, left: list[Record]) -> Record:
    """The record of a tree that is over. Where the kernel keeps no peak, the largest resident size that any single
    process reached may be more than all samples together saw."""
    if shim.root:
        shim.freed.finish(shim.rung, cause, bool(left), time.monotonic())
    peak, source = shim.rung.peak(), shim.rung.source
    if shim.biggest > peak and source != "cgroup":
        peak, source = shim.biggest, "rss"
    return {
        "schema": "oomless.run/1",
        "tree": shim.granted["tree"],
        "name": shim.spec["name"],
        "status": cause.status,
        "exit_code": cause.code,
        "signal": cause.signal,
        "reason": cause.reason,
        "rung": shim.rung.name,
        "why_rung": shim.why_rung,
        "peak_bytes": peak,
        "peak_source": source,
        "bytes_before": shim.freed.before,
        "bytes_after": shim.freed.after,
        "limit_bytes": shim.bounds.memory,
        "reserved_bytes": shim.granted["reserved"],
        "seconds": round(time.monotonic() - shim.began, 3),
        "survivors": len(left),
        "left": left,
        "ended": shim.ended,
        "started_at": shim.started_at,
        "victim": cause.victim,
        "escaped": shim.escapes.rows(),
        **shim.spec["extra"],
        **shim.record_extra(),
    }


def write(path: str, record: Record) -> OSError | None:
    """Not synced: no process outlives a power cut, so the journal closes such trees by their boot id."""
    return files.replace(path, dumps(record) + "\n")
