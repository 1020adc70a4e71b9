"""A recorded scene: processes with what was read of each, and with the truth about each; kept as JSON, and replayed.

The truth (``Label``) is written by the script that staged the scene, from what it started and ended itself, never
from what the rules answer."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from oomless import catalog
from oomless.census import attribution, governed, verdicts
from oomless.census.attribution import Attributed, Verdict
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import Footprint, MachineMemory, ProcessInfo
from oomless.platform.base import Standing
from oomless.protocol.reap_views import PROVEN
from oomless.reports.reap import select_rows
from oomless.reports.scan import build_scan

SCENES = Path(__file__).parent / "scenes"
#: What is of the machine where a scene was recorded, and says nothing: homes but /home/dev, and temporary folders.
_PLACE = re.compile(r"(?<![\w.-])(?:/root\b|/home/(?!dev\b)[^/ ]+|/tmp/(?!scene\b)[^ ]+)")
_MEMORY = MachineMemory(total_bytes=16 * 2**30, available_bytes=8 * 2**30)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of a process. ``unknown``: no session started it, or nothing that could be read shows which; then
    the census need not list it."""

    verdict: Verdict
    why: str


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    process: ProcessInfo
    marks: Marks
    standing: Standing
    label: Label


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """``kernel`` as uname gives the release; ``recorded``: the date, 2026-11-24."""

    kernel: str
    recorded: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """``title``: what was run and how it ended; ``programs``: what ran, with versions; ``rules``: those that it
    was recorded with, as ``rules.name()`` calls them; ``daemon``: what it knew; ``processes``: by pid."""

    schema: Literal["oomless.corpus/1"] = "oomless.corpus/1"
    name: str
    title: str
    programs: tuple[str, ...]
    host: Host
    rules: str
    daemon: DaemonFacts = DaemonFacts()
    install_id: str = ""
    processes: tuple[Recorded, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """``found``: what the census lists, by pid; ``proposed``: the pids that ``reap`` proposes."""

    found: Mapping[int, Attributed]
    proposed: frozenset[int]


def replay(scene: Scene) -> Replayed:
    """As ``reports/look.py`` and ``cli/reap.py`` have it, on what was read then."""
    seen = Snapshot(
        processes=tuple(one.process for one in scene.processes),
        marks=tuple(_with_host(one.marks) for one in scene.processes),
    )
    standings = {one.process.pid: one.standing for one in scene.processes}
    members = governed.find_members(seen, scene.daemon.trees, scene.install_id) if scene.daemon.trees else ()
    found = attribution.attribute(seen, members, known_programs(), scene.daemon)
    doubtful = verdicts.select_doubtful(found, seen)
    found = verdicts.decide(found, seen, {one.pid: standings[one.pid] for one in doubtful})
    return Replayed(found={one.process.pid: one for one in found}, proposed=proposals(found))


def _with_host(marks: Marks) -> Marks:
    """Scenes that were recorded before marks named their host are all Claude Code's."""
    is_of_host = marks.session or marks.host_pid or marks.project
    return msgspec.structs.replace(marks, host="claude-code") if is_of_host and not marks.host else marks


def proposals(found: Iterable[Attributed]) -> frozenset[int]:
    """Sizes are no part of the decision: resident memory stands for what cannot be read any more."""
    by_pid = {one.process.pid: one for one in found}
    footprints = {pid: Footprint(bytes=one.process.rss_bytes, source="rss") for pid, one in by_pid.items()}
    rows = build_scan(by_pid.values(), footprints, _MEMORY).processes
    proposed, _ = select_rows(rows, by_pid, PROVEN)
    return frozenset(one.pid for one in proposed)


@functools.cache
def known_programs() -> catalog.Catalog:
    """What comes with the program, and nothing of the user's."""
    return catalog.load()


# -- files -----------------------------------------------------------------------------------------------------------


def save(scene: Scene, path: Path) -> None:
    """Readable, and the same for the same scene: a line a field, and a line a process."""
    mistakes = list(problems(scene))
    if mistakes:
        raise ValueError(f"{scene.name}: {'; '.join(mistakes)}")
    whole = msgspec.structs.asdict(scene)
    rows = ",\n".join(f"  {_json(one)}" for one in whole.pop("processes"))
    lines = [f" {_json(name)}: {_json(value)}" for name, value in whole.items()]
    text = ",\n".join([*lines, f' "processes": [\n{rows}\n ]'])
    path.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def load(path: Path) -> Scene:
    """Raises ValueError, naming the file, if it is no scene or contradicts itself."""
    try:
        scene = msgspec.json.decode(path.read_bytes(), type=Scene)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    mistakes = list(problems(scene))
    if scene.name != path.stem:
        mistakes.append(f"it calls itself {scene.name}")
    if mistakes:
        raise ValueError(f"{path.name}: {'; '.join(mistakes)}")
    return scene


def scenes(folder: Path = SCENES) -> tuple[Scene, ...]:
    return tuple(load(path) for path in sorted(folder.glob("*.json")))


def problems(scene: Scene) -> Iterator[str]:
    """What no scene may have."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", scene.name):
        yield f"{scene.name!r} is no name (small letters, digits, hyphens)"
    for field in ("title", "programs", "rules", "processes"):
        if not getattr(scene, field):
            yield f"{field} is empty"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", scene.host.recorded):
        yield f"{scene.host.recorded!r} is no date"
    pids = [one.process.pid for one in scene.processes]
    twice = [pid for pid, count in Counter(pids).items() if count > 1]
    if twice:
        yield f"{twice} are there twice"
    if pids != sorted(pids):
        yield "the processes are not by pid"
    for one in scene.processes:
        if not one.label.why.strip():
            yield f"the label of {one.process.pid} has no reason"
        strange = _PLACE.search(" ".join(one.process.command))
        if strange:
            yield f"{one.process.pid} names {strange[0]}, a place of the machine where it was recorded"
