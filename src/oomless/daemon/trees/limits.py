"""What a request amounts to under the settings, before admission decides about it.

A declared need is ``need`` (``--expect``), else ``limit`` (``--memory`` reserves and limits), else what the settings
say for the class. Without any of these an estimate is reserved (``PRIOR``).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from oomless.admission.events import Policy
from oomless.config import LiveSettings, Settings, find_project_file, load_settings, merge_settings, resolve_headroom
from oomless.daemon.logs import Log
from oomless.errors import ConfigError
from oomless.model import Terms
from oomless.platform.base import Platform

#: Reserved for a command that nobody described: a small agent with its tools. An estimate, not a measurement;
#: when nothing runs, one may start whatever its estimate is.
PRIOR = 300 * 10**6


class EffectiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``terms`` as the settings bound them; their ``need`` is None where only an estimate can be reserved. ``wait``:
    for how many seconds the request may be kept waiting. ``extra_headroom``: bytes that the project wants to stay
    available beyond the user's own headroom."""

    terms: Terms
    wait: float
    extra_headroom: int


class LimitResolver:
    """The user's settings, with those of the project that a request comes from."""

    def __init__(self, settings: LiveSettings, platform: Platform, log: Log) -> None:
        self._settings = settings
        self._platform = platform
        self._log = log
        self._home = str(Path.home())

    def resolve(self, terms: Terms, cwd: str, wait: float | None = None) -> EffectiveLimits:
        """Raises ConfigError if the project's settings cannot be read."""
        file = find_project_file(cwd, self._home)
        project = load_settings(file, project=True) if file else Settings()
        folder = os.path.dirname(file) if file else ""
        total_bytes = self._platform.memory().total_bytes
        return resolve_limits(terms, wait, self._settings.current(), project, folder, total_bytes)

    def resolve_or_skip_project(self, terms: Terms, cwd: str, wait: float | None = None) -> EffectiveLimits:
        """A project's file that cannot be read is logged and does not apply: it must not keep a session's subagents
        from starting."""
        try:
            return self.resolve(terms, cwd, wait)
        except ConfigError as error:
            self._log.warning(f"the project's settings are ignored; {error.line()}", cwd=cwd)
            return self.resolve(terms, "/", wait)


def resolve_limits(
    terms: Terms, wait: float | None, user: Settings, project: Settings, folder: str, total_bytes: int
) -> EffectiveLimits:
    """``project``: the settings in ``folder``/oomless.toml. They bound, as one group, all requests from below that
    folder. A batch has a group of its own, which then has the tighter of both bounds."""
    merged = merge_settings(user, project)
    own = merged.classes.get(terms.class_name or "")
    limit = _tighter(terms.limit, own.memory if own else None)
    need = terms.need if terms.need is not None else (own.expect if own else None)
    bounded = project.budget is not None or project.max_parallel_subagents != "auto"
    return EffectiveLimits(
        terms=msgspec.structs.replace(
            terms,
            need=limit if need is None else need,
            limit=limit,
            processes=_tighter(terms.processes, own.processes if own else None),
            group=terms.group or (f"project {folder}" if bounded else None),
            group_budget=_tighter(terms.group_budget, project.budget),
            group_parallel=_tighter(terms.group_parallel, places(project)),
        ),
        wait=merged.wait if wait is None else wait,
        extra_headroom=resolve_headroom(merged, total_bytes) - resolve_headroom(user, total_bytes),
    )


def policy_of(settings: Settings, total_bytes: int) -> Policy:
    return Policy(
        budget=settings.budget,
        admit_mark=settings.marks.admit,
        headroom=resolve_headroom(settings, total_bytes),
        max_parallel=places(settings),
    )


def places(settings: Settings) -> int | None:
    """How many may run at once; None: as memory allows."""
    return None if settings.max_parallel_subagents == "auto" else settings.max_parallel_subagents


def _tighter(bound: int | None, other: int | None) -> int | None:
    return min((size for size in (bound, other) if size is not None), default=None)
