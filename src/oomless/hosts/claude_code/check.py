"""Whether Claude Code is there and oomless is installed in it as it should be: what ``doctor`` says about it.

Reads settings, and starts nothing but ``claude --version``.
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
from oomless.hosts.claude_code.settings import EVENTS, InstalledHooks
from oomless.hosts.installation import HookTarget, HostView
from oomless.paths import Paths

VERSION_SECONDS = 10
_AGAIN = f"run oomless install {FACTS.name}"


def check(paths: Paths, environ: Mapping[str, str], cwd: str, target: HookTarget) -> HostView:
    program = shutil.which("claude", path=environ.get("PATH", os.defpath))
    path = settings_path(environ)
    settings, problem = _read_settings(path)
    installed = claude_settings.find_installed(settings)
    problems = [problem] if problem else []
    if installed.events:
        problems += [*_find_mismatches(installed, target), *_find_blockers(path, settings, cwd, target)]
    ours = installed.prefix == prefix.prefix_path(paths)
    if ours and not os.access(prefix.prefix_path(paths), os.X_OK):
        problems.append(f"the prefix program {installed.prefix} is missing, so that no command runs; {_AGAIN}")
    return HostView(
        host=FACTS.name,
        program=program,
        version=_read_version(program) if program else None,
        settings=path,
        hooks="none" if not installed.events else "partly" if _missing_events(installed) else "installed",
        prefix="installed" if ours else "none",
        problems=tuple(problems),
        notes=tuple(_find_notes(environ, cwd)),
    )


def _read_settings(path: str) -> tuple[object, str | None]:
    try:
        file = userfile.read(path, LIMIT)
        return None if file.raw is None else claude_settings.parse_settings(file.text(), path), None
    except UsageError as error:
        return None, error.line()


def _read_version(program: str) -> str | None:
    """Returns the version that the program prints; None if it prints none in time."""
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
    words = done.stdout.decode("utf-8", "replace").split()
    return words[0] if done.returncode == 0 and words else None


def _missing_events(installed: InstalledHooks) -> list[str]:
    return [event for event in EVENTS if event not in installed.events]


def _find_mismatches(installed: InstalledHooks, target: HookTarget) -> Iterator[str]:
    if missing := _missing_events(installed):
        yield f"there are no hooks for {', '.join(missing)}; {_AGAIN}"
    port = urlsplit(target.url).port if target.url else None
    if port and installed.ports - {port}:
        named = ", ".join(map(str, sorted(installed.ports)))
        yield f"the hooks go to port {named}, and the daemon is on {port}; {_AGAIN}"
    if target.token and installed.tokens - {target.token}:
        yield f"the hooks do not have the daemon's token; {_AGAIN}"


def _find_blockers(path: str, settings: object, cwd: str, target: HookTarget) -> Iterator[str]:
    """Looks at every file that Claude Code would read in this folder."""
    files = [(path, settings), (MANAGED, lenient(MANAGED))]
    for name in ("settings.json", "settings.local.json"):
        project = os.path.join(cwd, ".claude", name)
        if os.path.realpath(project) != os.path.realpath(path):
            files.append((project, lenient(project)))
    if error := claude_settings.find_blocker(files, target.url or "http://127.0.0.1:0"):
        yield error.line()


def _find_notes(environ: Mapping[str, str], cwd: str) -> Iterator[str]:
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
