"""Whether Claude Code is there and oomless is installed in it as it should be: what ``doctor`` says about it.

Covers: the program and its version, hooks and prefix, whether they name the daemon that runs, and what would keep
them from running; and a file that people take for settings. Reads only, and starts nothing but ``claude --version``.
Not here: what is installed (``claude_settings.py``) and how it is shown (``cli/doctor.py``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from oomless import config_import, userfile
from oomless.errors import UsageError
from oomless.hosts.claude_code import prefix
from oomless.hosts.claude_code import settings as claude_settings
from oomless.hosts.claude_code.facts import FACTS
from oomless.hosts.claude_code.install import LIMIT, MANAGED, lenient, settings_path
from oomless.hosts.claude_code.settings import EVENTS, Found
from oomless.hosts.installation import HookTarget, HostView
from oomless.paths import Paths

VERSION_SECONDS = 10
_AGAIN = f"run oomless install {FACTS.name}"


def check(paths: Paths, environ: Mapping[str, str], cwd: str, target: HookTarget) -> HostView:
    program = shutil.which("claude", path=environ.get("PATH", os.defpath))
    path = settings_path(environ)
    settings, problem = _settings(path)
    found = claude_settings.found(settings)
    problems = [problem] if problem else []
    if found.events:
        problems += [*_mismatches(found, target), *_blockers(path, settings, cwd, target)]
    ours = found.prefix == prefix.prefix_path(paths)
    if ours and not os.access(prefix.prefix_path(paths), os.X_OK):
        problems.append(f"the prefix program {found.prefix} is not there, so that no command runs; {_AGAIN}")
    return HostView(
        host=FACTS.name,
        program=program,
        version=_version(program) if program else None,
        settings=path,
        hooks="none" if not found.events else "partly" if _missing(found) else "installed",
        prefix="installed" if ours else "none",
        problems=tuple(problems),
        notes=tuple(_notes(environ, cwd)),
    )


def _settings(path: str) -> tuple[object, str | None]:
    try:
        file = userfile.read(path, LIMIT)
        return None if file.raw is None else claude_settings.parse(file.text(), path), None
    except UsageError as error:
        return None, error.line()


def _version(program: str) -> str | None:
    """What it says of itself; None if it says nothing in time."""
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stdout.decode("utf-8", "replace").split()
    return said[0] if done.returncode == 0 and said else None


def _missing(found: Found) -> list[str]:
    return [event for event in EVENTS if event not in found.events]


def _mismatches(found: Found, target: HookTarget) -> Iterator[str]:
    if missing := _missing(found):
        yield f"there are no hooks for {', '.join(missing)}; {_AGAIN}"
    port = urlsplit(target.url).port if target.url else None
    if port and found.ports - {port}:
        named = ", ".join(map(str, sorted(found.ports)))
        yield f"the hooks go to port {named}, and the daemon is on {port}; {_AGAIN}"
    if target.token and found.tokens - {target.token}:
        yield f"the hooks do not have the daemon's token; {_AGAIN}"


def _blockers(path: str, settings: object, cwd: str, target: HookTarget) -> Iterator[str]:
    """From every file that Claude Code would read here."""
    files = [(path, settings), (MANAGED, lenient(MANAGED))]
    for name in ("settings.json", "settings.local.json"):
        project = os.path.join(cwd, ".claude", name)
        if os.path.realpath(project) != os.path.realpath(path):
            files.append((project, lenient(project)))
    if error := claude_settings.blocked(files, target.url or "http://127.0.0.1:0"):
        yield error.line()


def _notes(environ: Mapping[str, str], cwd: str) -> Iterator[str]:
    seen = set[str]()
    for folder in (os.path.expanduser(environ.get("HOME") or "~"), cwd):
        path = os.path.realpath(os.path.join(folder, ".claude", "config.json"))
        if path not in seen and _has_incident_keys(path):
            yield f"Claude Code ignores {path}: it has no such settings; oomless config import takes them over"
        seen.add(path)


def _has_incident_keys(path: str) -> bool:
    try:
        return config_import.has_known_key(userfile.read(path, LIMIT).text())
    except UsageError:
        return False
