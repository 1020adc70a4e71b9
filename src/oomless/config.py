"""Settings: what the user's ``config.toml`` and a project's ``oomless.toml`` may say.

Covers: the typed settings, loading them, which of two files has its way (a project's may only tighten), and
reading a file again when it changes. Does not cover: how a mistake in a file is found and named
(``tomlfile.py``), command line options (``cli/``), where the user's file is (``paths.py``), and what a limit
does (``admission/``, ``contain/``).

``auto`` is ``None`` for sizes: no fixed budget, and headroom by the machine's memory (``headroom_bytes``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from oomless.errors import ConfigError
from oomless.tomlfile import Document, count, dotted, port, reap, rung, seconds, share, size

PROJECT_FILE = "oomless.toml"
MIB, GIB = 2**20, 2**30
#: Two writes within one clock tick (4 to 10 ms) leave the same mtime: a file this young is read again.
TICK_NS = 20_000_000

Source = Literal["default", "user", "project"]

KEYS = ("max_parallel_subagents", "budget", "headroom", "wait", "rung", "reap", "marks", "classes", "daemon")


class ClassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``memory`` and ``processes`` limit each tree of the class, ``expect`` is what each reserves; None: not said."""

    memory: int | None = None
    expect: int | None = None
    processes: int | None = None


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` on 127.0.0.1; 0: any that is free."""

    port: int = 0


class MarkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the budget in use: above ``admit`` nothing more starts, above ``warn`` it is told, above ``end`` one
    tree after the other is ended (``admission/victims.py``)."""

    admit: float = 0.8
    warn: float = 0.9
    end: float = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one file says, or both merged. ``reap``: what a registered session is proven to have left is ended, or
    proposed by ``oomless reap`` ("ask"), or only listed ("off"). ``path`` and ``given`` (dotted keys) tell what was
    read and are empty in a merged result. Only there is ``headroom_floor``: the headroom that a project's file asks
    for at least, where the user's leaves it to the machine."""

    max_parallel_subagents: int | Literal["auto"] = "auto"
    budget: int | None = None
    headroom: int | None = None
    headroom_floor: int = 0
    wait: float = 540.0
    rung: str = "auto"
    reap: Literal["proven", "ask", "off"] = "proven"
    marks: MarkSettings = MarkSettings()
    classes: dict[str, ClassSettings] = {}
    daemon: DaemonSettings = DaemonSettings()
    path: str | None = None
    given: frozenset[str] = frozenset()


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """One setting in effect and the file that it is from. ``value``: bytes, seconds, a number, ``auto``."""

    key: str
    value: int | float | str
    source: Source
    file: str | None = None


def default_headroom(total_bytes: int) -> int:
    """What stays free when the settings don't say: 5 % of memory, 256 MiB at least, 2 GiB at most."""
    return min(max(total_bytes // 20, 256 * MIB), 2 * GIB)


def headroom_bytes(settings: Settings, total_bytes: int) -> int:
    said = default_headroom(total_bytes) if settings.headroom is None else settings.headroom
    return max(said, settings.headroom_floor)


# Two files, one result


def effective(user: Settings, project: Settings) -> Settings:
    """The user's settings, tightened where the project's file is tighter."""
    counts = [s.max_parallel_subagents for s in (user, project) if s.max_parallel_subagents != "auto"]
    classes = dict(user.classes)
    for name, theirs in project.classes.items():
        ours = user.classes.get(name, ClassSettings())
        classes[name] = ClassSettings(
            memory=_smaller(ours.memory, theirs.memory),
            expect=ours.expect,
            processes=_smaller(ours.processes, theirs.processes),
        )
    floor = project.headroom or 0
    return Settings(
        max_parallel_subagents=min(counts, default="auto"),
        budget=_smaller(user.budget, project.budget),
        headroom=None if user.headroom is None else max(user.headroom, floor),
        headroom_floor=floor if user.headroom is None else 0,
        wait=min(user.wait, project.wait) if "wait" in project.given else user.wait,
        rung=user.rung,
        reap=user.reap,
        marks=user.marks,
        classes=classes,
        daemon=user.daemon,
    )


def _smaller(one: int | None, other: int | None) -> int | None:
    return min((size for size in (one, other) if size is not None), default=None)


def origins(user: Settings, project: Settings) -> tuple[Origin, ...]:
    """Every setting in effect, and which file it is from; where both say the same it is the user's."""
    ours, theirs = dict(_flat(user)), dict(_flat(project))
    if "headroom" in project.given:
        theirs["headroom_floor"] = project.headroom or 0
    found = []
    for key, value in _flat(effective(user, project)):
        if key in user.given and ours[key] == value:
            found.append(Origin(key=key, value=value, source="user", file=user.path))
        elif key.replace("_floor", "") in project.given and theirs[key] == value:
            found.append(Origin(key=key, value=value, source="project", file=project.path))
        else:
            found.append(Origin(key=key, value=value, source="default"))
    return tuple(found)


def _flat(settings: Settings) -> Iterator[tuple[str, int | float | str]]:
    yield "max_parallel_subagents", settings.max_parallel_subagents
    yield "budget", _auto(settings.budget)
    yield "headroom", _auto(settings.headroom)
    if settings.headroom_floor:
        yield "headroom_floor", settings.headroom_floor
    yield "wait", settings.wait
    yield "rung", settings.rung
    yield "reap", settings.reap
    yield "marks.admit", settings.marks.admit
    yield "marks.warn", settings.marks.warn
    yield "marks.end", settings.marks.end
    for name, one in settings.classes.items():
        yield dotted(("classes", name, "memory")), _auto(one.memory)
        yield dotted(("classes", name, "expect")), _auto(one.expect)
        yield dotted(("classes", name, "processes")), _auto(one.processes)
    yield "daemon.port", settings.daemon.port


def _auto(size: int | None) -> int | str:
    return "auto" if size is None else size


# One file


def load(path: str, *, project: bool = False, must_exist: bool = False) -> Settings:
    """The settings of one file; defaults if there is none. ``project``: only what such a file may set."""
    document = Document.open(path)
    if document is None:
        if must_exist:
            raise ConfigError(f"there is no settings file {path}")
        return Settings()
    return _settings(document, project)


def find_project(start_dir: str, home: str) -> str | None:
    """The nearest ``oomless.toml`` at or above ``start_dir``, but not above the home folder."""
    folder, last = os.path.realpath(start_dir), os.path.realpath(home)
    while True:
        path = os.path.join(folder, PROJECT_FILE)
        if os.path.lexists(path):
            return path
        if folder in (last, os.path.dirname(folder)):
            return None
        folder = os.path.dirname(folder)


def load_project(start_dir: str, home: str) -> Settings:
    path = find_project(start_dir, home)
    return Settings() if path is None else load(path, project=True, must_exist=True)


def _settings(document: Document, project: bool) -> Settings:
    top = document.top
    document.check_names(top, (), KEYS)
    for name in ("daemon", "rung", "reap", "marks"):
        if project and name in top:
            _users_only(document, (name,))
    daemon = document.table(top, ("daemon",))
    document.check_names(daemon, ("daemon",), ("port",))
    return Settings(
        max_parallel_subagents=document.value(top, ("max_parallel_subagents",), count, "auto"),
        budget=document.value(top, ("budget",), size, None),
        headroom=document.value(top, ("headroom",), size, None),
        wait=document.value(top, ("wait",), seconds, Settings().wait),
        rung=document.value(top, ("rung",), rung, "auto"),
        reap=document.value(top, ("reap",), reap, Settings().reap),
        marks=_marks(document, top),
        classes=_classes(document, document.table(top, ("classes",)), project),
        daemon=DaemonSettings(port=document.value(daemon, ("daemon", "port"), port, 0)),
        path=document.path,
        given=frozenset(document.given),
    )


def _marks(document: Document, top: Mapping[str, object]) -> MarkSettings:
    table = document.table(top, ("marks",))
    names = ("admit", "warn", "end")
    document.check_names(table, ("marks",), names)
    usual = MarkSettings()
    values = [document.value(table, ("marks", name), share, getattr(usual, name)) for name in names]
    for lower, upper, name in zip(values, values[1:], names[1:], strict=False):
        if upper < lower:
            document.fail(
                ("marks", name), "it is below the mark before it", "they are admit, warn and end, in that order"
            )
    return MarkSettings(admit=values[0], warn=values[1], end=values[2])


def _classes(document: Document, tables: Mapping[str, object], project: bool) -> dict[str, ClassSettings]:
    found = {}
    for name in tables:
        key = ("classes", name)
        table = document.table(tables, key)
        document.check_names(table, key, ("memory", "expect", "processes"))
        if project and "expect" in table:
            _users_only(document, (*key, "expect"))
        found[name] = ClassSettings(
            memory=document.value(table, (*key, "memory"), size, None),
            expect=document.value(table, (*key, "expect"), size, None),
            processes=_numbered(document.value(table, (*key, "processes"), count, "auto")),
        )
    return found


def _numbered(value: int | Literal["auto"]) -> int | None:
    return None if value == "auto" else value


def _users_only(document: Document, key: tuple[str, ...]) -> None:
    document.fail(key, "a project's file may only tighten limits", "set it in the user's config.toml")


class Watched:
    """The user's settings as they are now; ``current()`` costs one stat while the file stays as it is. A broken
    file leaves the last good settings (at first: defaults) in effect, and ``problem`` says what is wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem: str | None = None
        self._settings = Settings()
        self._seen: tuple[int, int, int] | None = None
        self._reload(self._signature())

    def current(self) -> Settings:
        signature = self._signature()
        if signature != self._seen:
            self._reload(signature)
        return self._settings

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            state = os.stat(self.path)
        except OSError:
            return None  # gone, or load() says why it cannot be looked at
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _reload(self, signature: tuple[int, int, int] | None) -> None:
        self._seen = signature
        if signature is not None and time.time_ns() - signature[0] < TICK_NS:
            self._seen = (0, 0, 0)
        try:
            self._settings, self.problem = load(self.path), None
        except ConfigError as error:
            self.problem = error.line()
