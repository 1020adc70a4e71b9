"""The exit record of a tree: its fields, those of ``model.ExitRecord``, and the file that holds them.

Standard library only.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless import atomicfile
from oomless.contain.ending import masked_command
from oomless.lean import dumps
from oomless.platform import proc
from oomless.processes import descendants
from oomless.processes.ids import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from oomless.contain.cause import Cause
    from oomless.contain.limits.reclaimed import Reclaimed
    from oomless.contain.rungs.base import Rung

Record = dict[str, object]


def describe_end(cause: Cause) -> Record:
    return {
        "status": cause.status,
        "exit_code": cause.code,
        "signal": cause.signal,
        "reason": cause.reason,
        "victim": cause.victim,
    }


def describe_memory(rung: Rung, biggest: int, reclaimed: Reclaimed) -> Record:
    """``biggest``: bytes of the largest resident size that any single process reached. Where the kernel keeps no
    peak, that may be more than all samples together saw."""
    peak, source = rung.peak(), rung.source
    if biggest > peak and source != "cgroup":
        peak, source = biggest, "rss"
    return {
        "peak_bytes": peak,
        "peak_source": source,
        "bytes_before": reclaimed.before,
        "bytes_after": reclaimed.after,
    }


def describe_survivors(members: Iterable[ProcessId], own: int, strangers: Container[tuple[int, int]]) -> list[Record]:
    """The living among ``members`` and below ``own``, each with the reason why it lives."""
    below = [ProcessId.of(stat) for stat in descendants.walk(own, strangers)]
    everybody = {process for process in (*members, *below) if process not in strangers}
    survivors: list[Record] = []
    for process in sorted(everybody):
        stat = descendants.find_living(process)
        if stat is None:
            continue
        why = "does not answer SIGKILL (uninterruptible)" if stat.state == "D" else "may not be signalled"
        why = "has been killed, and is long in dying" if proc.dying(stat) else why
        survivors.append(_row(stat, why))
    return survivors


def describe_detached(reasons: Mapping[ProcessId, str]) -> list[Record]:
    """The living among those that detached on purpose, each with its reason."""
    stats = ((descendants.find_living(process), why) for process, why in reasons.items())
    return [_row(stat, why) for stat, why in stats if stat is not None]


def _row(stat: proc.Stat, why: str) -> Record:
    """The fields of ``model.Survivor``."""
    command = masked_command(stat.pid) or stat.comm
    return {"pid": stat.pid, "start": stat.start, "command": command, "why": why}


def write(path: str, record: Record) -> OSError | None:
    """Not synced: no process outlives a power cut, so the journal closes such trees by their boot id."""
    return atomicfile.try_write_named(path, dumps(record) + "\n", 0o666)
