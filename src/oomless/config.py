"""Settings: the user's ``config.toml``, a project's ``oomless.toml`` (which may only tighten), and both merged.

Sizes are bytes and times seconds. ``auto`` is ``None`` for sizes: no fixed budget, and headroom by the machine's
memory (``resolve_headroom``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from oomless.errors import ConfigError
from oomless.tomlfile import (
    Document,
    check_count,
    check_port,
    check_reap,
    check_rung,
    check_seconds,
    check_share,
    check_size,
    format_key,
)

PROJECT_FILE = "oomless.toml"
MIB, GIB = 2**20, 2**30
#: Two writes within one clock tick (4 to 10 ms) leave the same mtime: a file this young is read again.
TICK_NS = 20_000_000

SettingSource = Literal["default", "user", "project"]
SettingUnit = Literal["bytes", "seconds", "share", "number", "text"]

KEYS = ("max_parallel_subagents", "budget", "headroom", "wait", "rung", "reap", "marks", "classes", "daemon")


class ClassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``memory`` and ``processes`` limit each tree of the class, ``expect`` is what each reserves; None: not set."""

    memory: int | None = None
    expect: int | None = None
    processes: int | None = None


class DaemonSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` is the one on 127.0.0.1; 0: any that is free."""

    port: int = 0


class MarkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the budget in use. From ``admit`` on nothing more is admitted, from ``warn`` on there is a warning,
    and at ``end`` one tree is killed at a time."""

    admit: float = 0.8
    warn: float = 0.9
    end: float = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one file, or of both merged. ``reap``: proven leftovers of a registered session are killed
    ("proven"), proposed by ``oomless reap`` ("ask") or only listed ("off"). ``path`` and ``given`` (dotted keys) are
    of the file that was read, and empty in a merged result. Only there is ``headroom_floor``: the least headroom that
    the project asks for, where the user's file leaves it to the machine."""

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


class SettingOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One setting in effect and the file that it is from. ``value`` is in ``unit``, or the text ``auto``."""

    key: str
    value: int | float | str
    unit: SettingUnit
    source: SettingSource
    file: str | None = None


def default_headroom(total_bytes: int) -> int:
    """The headroom where the settings have none: 5 % of memory, 256 MiB at least, 2 GiB at most."""
    return min(max(total_bytes // 20, 256 * MIB), 2 * GIB)


def resolve_headroom(settings: Settings, total_bytes: int) -> int:
    headroom = default_headroom(total_bytes) if settings.headroom is None else settings.headroom
    return max(headroom, settings.headroom_floor)


# Two files, one result


def merge_settings(user: Settings, project: Settings) -> Settings:
    """The user's settings, tightened where the project's file is tighter."""
    counts = [s.max_parallel_subagents for s in (user, project) if s.max_parallel_subagents != "auto"]
    classes = dict(user.classes)
    for name, limits in project.classes.items():
        own = user.classes.get(name, ClassSettings())
        classes[name] = ClassSettings(
            memory=_smaller(own.memory, limits.memory),
            expect=own.expect,
            processes=_smaller(own.processes, limits.processes),
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


def _smaller(first: int | None, second: int | None) -> int | None:
    return min((size for size in (first, second) if size is not None), default=None)


def list_origins(user: Settings, project: Settings) -> tuple[SettingOrigin, ...]:
    """Every setting in effect, and which file it is from; where both have the same value it is the user's."""
    users, projects = ({key: value for key, _, value in _flatten(settings)} for settings in (user, project))
    if "headroom" in project.given:
        projects["headroom_floor"] = project.headroom or 0
    rows = []
    for key, unit, value in _flatten(merge_settings(user, project)):
        source: SettingSource = "default"
        if key in user.given and users[key] == value:
            source = "user"
        elif key.replace("_floor", "") in project.given and projects[key] == value:
            source = "project"
        file = {"user": user.path, "project": project.path}.get(source)
        rows.append(SettingOrigin(key=key, value=value, unit=unit, source=source, file=file))
    return tuple(rows)


def _flatten(settings: Settings) -> Iterator[tuple[str, SettingUnit, int | float | str]]:
    yield "max_parallel_subagents", "number", settings.max_parallel_subagents
    yield "budget", "bytes", _or_auto(settings.budget)
    yield "headroom", "bytes", _or_auto(settings.headroom)
    if settings.headroom_floor:
        yield "headroom_floor", "bytes", settings.headroom_floor
    yield "wait", "seconds", settings.wait
    yield "rung", "text", settings.rung
    yield "reap", "text", settings.reap
    yield "marks.admit", "share", settings.marks.admit
    yield "marks.warn", "share", settings.marks.warn
    yield "marks.end", "share", settings.marks.end
    for name, limits in settings.classes.items():
        yield format_key(("classes", name, "memory")), "bytes", _or_auto(limits.memory)
        yield format_key(("classes", name, "expect")), "bytes", _or_auto(limits.expect)
        yield format_key(("classes", name, "processes")), "number", _or_auto(limits.processes)
    yield "daemon.port", "number", settings.daemon.port


def _or_auto(number: int | None) -> int | str:
    return "auto" if number is None else number


# One file


def load_settings(path: str, *, project: bool = False, must_exist: bool = False) -> Settings:
    """The settings of one file; defaults if it does not exist, ConfigError for a mistake. ``project``: only what such
    a file may set."""
    document = Document.open(path)
    if document is None:
        if must_exist:
            raise ConfigError(f"there is no settings file {path}")
        return Settings()
    return _read_settings(document, project)


def find_project_file(start_dir: str, home: str) -> str | None:
    """The nearest ``oomless.toml`` at or above ``start_dir``, but not above the home folder."""
    folder, last = os.path.realpath(start_dir), os.path.realpath(home)
    while True:
        path = os.path.join(folder, PROJECT_FILE)
        if os.path.lexists(path):
            return path
        if folder in (last, os.path.dirname(folder)):
            return None
        folder = os.path.dirname(folder)


def load_project_settings(start_dir: str, home: str) -> Settings:
    path = find_project_file(start_dir, home)
    return Settings() if path is None else load_settings(path, project=True, must_exist=True)


def _read_settings(document: Document, project: bool) -> Settings:
    top = document.top
    document.check_names(top, (), KEYS)
    for name in ("daemon", "rung", "reap", "marks"):
        if project and name in top:
            _fail_in_project(document, (name,))
    daemon = document.table(top, ("daemon",))
    document.check_names(daemon, ("daemon",), ("port",))
    return Settings(
        max_parallel_subagents=document.value(top, ("max_parallel_subagents",), check_count, "auto"),
        budget=document.value(top, ("budget",), check_size, None),
        headroom=document.value(top, ("headroom",), check_size, None),
        wait=document.value(top, ("wait",), check_seconds, Settings().wait),
        rung=document.value(top, ("rung",), check_rung, "auto"),
        reap=document.value(top, ("reap",), check_reap, Settings().reap),
        marks=_read_marks(document, top),
        classes=_read_classes(document, document.table(top, ("classes",)), project),
        daemon=DaemonSettings(port=document.value(daemon, ("daemon", "port"), check_port, 0)),
        path=document.path,
        given=frozenset(document.given),
    )


def _read_marks(document: Document, top: Mapping[str, object]) -> MarkSettings:
    table = document.table(top, ("marks",))
    names = ("admit", "warn", "end")
    document.check_names(table, ("marks",), names)
    defaults = MarkSettings()
    values = [document.value(table, ("marks", name), check_share, getattr(defaults, name)) for name in names]
    for lower, upper, name in zip(values, values[1:], names[1:], strict=False):
        if upper < lower:
            document.fail(
                ("marks", name), "it is below the mark before it", "they are admit, warn and end, in that order"
            )
    return MarkSettings(admit=values[0], warn=values[1], end=values[2])


def _read_classes(document: Document, tables: Mapping[str, object], project: bool) -> dict[str, ClassSettings]:
    classes = {}
    for name in tables:
        key = ("classes", name)
        table = document.table(tables, key)
        document.check_names(table, key, ("memory", "expect", "processes"))
        if project and "expect" in table:
            _fail_in_project(document, (*key, "expect"))
        processes: int | Literal["auto"] = document.value(table, (*key, "processes"), check_count, "auto")
        classes[name] = ClassSettings(
            memory=document.value(table, (*key, "memory"), check_size, None),
            expect=document.value(table, (*key, "expect"), check_size, None),
            processes=None if processes == "auto" else processes,
        )
    return classes


def _fail_in_project(document: Document, key: tuple[str, ...]) -> None:
    document.fail(key, "a project's file may only tighten limits", "set it in the user's config.toml")


class LiveSettings:
    """The user's settings as they are now: ``current()`` costs one stat while the file is unchanged. A broken file
    leaves the last good settings (at first: defaults) in effect, and ``problem`` is the error's line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem: str | None = None
        self._settings = Settings()
        self._loaded: tuple[int, int, int] | None = None
        self._reload(self._signature())

    def current(self) -> Settings:
        signature = self._signature()
        if signature != self._loaded:
            self._reload(signature)
        return self._settings

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            state = os.stat(self.path)
        except OSError:
            return None  # gone, or load_settings() raises why it cannot be read
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _reload(self, signature: tuple[int, int, int] | None) -> None:
        self._loaded = signature
        if signature is not None and time.time_ns() - signature[0] < TICK_NS:
            self._loaded = (0, 0, 0)
        try:
            self._settings, self.problem = load_settings(self.path), None
        except ConfigError as error:
            self.problem = error.line()
