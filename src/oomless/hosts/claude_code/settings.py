"""What oomless writes into Claude Code's ``settings.json``, and how that is recognised later. Pure: text in, text
out.

Hooks and shell prefix are put in, renewed in place and taken out again; ``find_blocker`` says what in a settings file
would keep them from running. The shapes are those that Claude Code 2.1.330 takes (measured): HTTP hooks do not fire
on SessionStart, so that one is a command, which also knows the session's pid. A hook that fails lets the tool go on,
and that stays so (``onFailure`` is not set).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from oomless import jsontext
from oomless.errors import UsageError
from oomless.hosts.installation import Before
from oomless.jsontext import Path

TOOLS = "Agent|Task"
PREFIX_KEY = "CLAUDE_CODE_SHELL_PREFIX"
PREFIX: Path = ("env", PREFIX_KEY)
URL_PATH = "/hooks/claude-code"
SESSION_START = ("claude-code", "session-start")
#: The word before these: our package's own file. Earlier versions wrote the program or module, and ``hook``.
BOOT = "/oomless/cli/boot_hook.py"
#: Seconds. The gate holds its answer as long as a subagent waits; the others only report, and none may hold up a
#: session when the daemon hangs. SessionEnd's is the budget of the session's whole end (1.5 s if no hook says more).
GATE_SECONDS, REPORT_SECONDS, END_SECONDS, START_SECONDS = 600, 5, 2, 30

_URL = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d{1,5})" + re.escape(URL_PATH))
_TOKEN = re.compile(r"Bearer ([0-9a-f]{64})")


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Where the hooks go: the daemon's ``url``, the token of its hooks, and the command for SessionStart."""

    url: str
    token: str
    command: str


class Edited(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    before: Before


class InstalledHooks(msgspec.Struct, frozen=True, kw_only=True):
    """What oomless has in a settings file. ``events`` have a hook of ours; ``ports`` and ``tokens`` are those that
    the hooks name."""

    events: frozenset[str]
    ports: frozenset[int]
    tokens: frozenset[str]
    prefix: str | None


def hook_groups(gate: Gate) -> dict[str, dict[str, object]]:
    """Returns our one matcher group for each event."""

    def http(seconds: int, **more: str) -> list[object]:
        headers = {"Authorization": f"Bearer {gate.token}"}
        return [{"type": "http", "url": gate.url + URL_PATH, "headers": headers, "timeout": seconds, **more}]

    report = http(REPORT_SECONDS)
    start = {"type": "command", "command": gate.command, "timeout": START_SECONDS}
    return {
        "PreToolUse": {"matcher": TOOLS, "hooks": http(GATE_SECONDS, statusMessage="waiting for memory")},
        "PostToolUse": {"matcher": TOOLS, "hooks": report},
        "PostToolUseFailure": {"matcher": TOOLS, "hooks": report},
        "PermissionDenied": {"matcher": TOOLS, "hooks": report},
        "SubagentStart": {"hooks": report},
        "SubagentStop": {"hooks": report},
        "SessionStart": {"hooks": [start]},
        "SessionEnd": {"hooks": http(END_SECONDS)},
    }


EVENTS = tuple(hook_groups(Gate(url="", token="", command="")))


def session_start_command(python: str) -> str:
    """Returns the command of the SessionStart hook, for a shell. By file and without ``site`` it takes half the time
    that ``-m oomless hook`` does (``bench/hook.py``)."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    boot = os.path.join(package, "cli", os.path.basename(BOOT))
    return shlex.join([python, "-I", "-S", "-E", boot, *SESSION_START])


# Recognising ours


def is_ours(hook: object) -> bool:
    """An HTTP hook on our path that shows one of our tokens, of whatever installation; or our command."""
    if not isinstance(hook, dict):
        return False
    if hook.get("type") == "http":
        return _URL.fullmatch(str(hook.get("url"))) is not None and _token(hook) is not None
    return hook.get("type") == "command" and _is_our_command(str(hook.get("command")), hook.get("args", []))


def _token(hook: Mapping[str, object]) -> str | None:
    headers = hook.get("headers")
    shown = _TOKEN.fullmatch(str(headers.get("Authorization"))) if isinstance(headers, dict) else None
    return shown[1] if shown else None


def _is_our_command(command: str, args: object) -> bool:
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    words += [str(arg) for arg in args] if isinstance(args, list) else []
    if len(words) < 4 or tuple(words[-2:]) != SESSION_START:
        return False
    return words[-3].endswith(BOOT) or (words[-3] == "hook" and os.path.basename(words[-4]) == "oomless")


def _our_hooks(settings: object) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yields our hooks with their paths, ``("hooks", event, group, "hooks", index)``; other shapes are skipped."""
    hooks = settings.get("hooks") if isinstance(settings, dict) else None
    for event, listed in hooks.items() if isinstance(hooks, dict) else ():
        for number, group in enumerate(listed if isinstance(listed, list) else ()):
            inner = group.get("hooks") if isinstance(group, dict) else None
            for index, hook in enumerate(inner if isinstance(inner, list) else ()):
                if is_ours(hook):
                    yield ("hooks", event, number, "hooks", index), hook


def find_installed(settings: object) -> InstalledHooks:
    events, ports, tokens = set[str](), set[int](), set[str]()
    for path, hook in _our_hooks(settings):
        events.add(str(path[1]))
        url, token = _URL.fullmatch(str(hook.get("url"))), _token(hook)
        if url and token:
            ports.add(int(url[1]))
            tokens.add(token)
    return InstalledHooks(
        events=frozenset(events), ports=frozenset(ports), tokens=frozenset(tokens), prefix=_prefix(settings)
    )


def _prefix(settings: object) -> str | None:
    env = settings.get("env") if isinstance(settings, dict) else None
    value = env.get(PREFIX_KEY) if isinstance(env, dict) else None
    return value if isinstance(value, str) else None


# Settings that cannot be used


def parse_settings(text: str, name: str) -> dict[str, object]:
    """Returns the settings; raises UsageError if they are no JSON object."""
    settings = jsontext.parse_json(text, name)
    if not isinstance(settings, dict):
        raise UsageError(f"cannot use {name}", "it is not a JSON object", "correct it")
    return settings


def check_shape(settings: dict[str, object], name: str) -> None:
    """Raises UsageError for hooks or an environment that Claude Code could not read either."""
    hooks, env = settings.get("hooks", {}), settings.get("env", {})
    if not isinstance(hooks, dict):
        raise _wrong_shape(name, "hooks", "an object")
    for event, listed in hooks.items():
        if not isinstance(listed, list):
            raise _wrong_shape(name, f"hooks.{event}", "a list")
        for number, group in enumerate(listed):
            inner = group.get("hooks") if isinstance(group, dict) else None
            if not isinstance(inner, list) or not all(isinstance(hook, dict) for hook in inner):
                raise _wrong_shape(name, f"hooks.{event}[{number}]", "an object with a list of hooks")
    if not isinstance(env, dict):
        raise _wrong_shape(name, "env", "an object")
    if not isinstance(env.get(PREFIX_KEY, ""), str):
        raise _wrong_shape(name, f"env.{PREFIX_KEY}", "text")


def _wrong_shape(name: str, key: str, expected: str) -> UsageError:
    return UsageError(f"cannot use {name}", f"{key} is not {expected}", "correct it")


def find_blocker(files: Iterable[tuple[str, object]], url: str) -> UsageError | None:
    """Returns why the hooks would not run with these settings (each with its file's name) as an error, or None.
    ``url`` is the daemon's. Lists of allowed addresses add up over all files."""
    allowed, names = list[str](), list[str]()
    for name, settings in files:
        if not isinstance(settings, dict):
            continue
        for key in ("disableAllHooks", "allowManagedHooksOnly"):
            if settings.get(key) is True:
                why = f"{key} is set in {name}"
                return UsageError("installed hooks would not run", why, f"take {key} out")
        if isinstance(patterns := settings.get("allowedHttpHookUrls"), list):
            allowed += map(str, patterns)
            names.append(name)
    if names and not any(_matches(pattern, url + URL_PATH) for pattern in allowed):
        why = f"allowedHttpHookUrls in {names[0]} does not have their address"
        return UsageError("installed hooks would not run", why, f'add "{url}/*" to it')
    return None


def _matches(pattern: str, url: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), url) is not None


# Edits


def install_hooks(
    text: str, name: str, gate: Gate, prefix: str | None, ours: frozenset[str], before: Before
) -> Edited:
    """Puts in or renews our hooks and the prefix; if ``prefix`` is None, one of ours is taken out.

    ``ours`` are the values known to be our prefix, ``before`` is what an earlier install remembered.
    """
    settings = parse_settings(text, name)
    check_shape(settings, name)
    before = Before(former=_former(settings, ours, before), empty=_empty(settings, before))
    text = _with_hooks(text, settings, hook_groups(gate), before)
    if prefix is None:
        return Edited(text=_without_prefix(text, ours, before), before=before)
    if _prefix(settings) != prefix:
        if "env" not in settings:
            text = jsontext.put_value(text, ("env",), {})
        text = jsontext.put_value(text, PREFIX, prefix)
    return Edited(text=text, before=before)


def uninstall_hooks(text: str, name: str, ours: frozenset[str], before: Before) -> str:
    """Takes out everything of ours, and puts back what was before."""
    for path in reversed([path for path, _ in _our_hooks(parse_settings(text, name))]):
        text = _without(text, path, before)
    return _without_prefix(text, ours, before)


def _former(settings: dict[str, object], ours: frozenset[str], before: Before) -> str | None:
    present = _prefix(settings)
    return before.former if present in ours else present


def _empty(settings: dict[str, object], before: Before) -> tuple[str, ...]:
    """Returns the empty objects and lists that we put something into, with those of earlier installs."""
    hooks = settings.get("hooks")
    places = [("env", settings.get("env")), ("hooks", hooks)]
    if isinstance(hooks, dict):
        places += [(f"hooks.{event}", hooks.get(event)) for event in EVENTS]
    empty = {name for name, value in places if value in ({}, [])}
    return tuple(sorted(empty | set(before.empty)))


def _with_hooks(text: str, settings: object, wanted: Mapping[str, dict[str, object]], before: Before) -> str:
    mine = [path for path, _ in _our_hooks(settings)]
    for path in reversed([path for path in mine if path[1] not in wanted]):
        text = _without(text, path, before)
    for event, group in wanted.items():
        present = [path for path in mine if path[1] == event]
        text = _with_group(text, event, group, present)
    return text


def _with_group(text: str, event: str, group: dict[str, object], present: list[Path]) -> str:
    """Renews our group for that event where it is, else adds one after all others. A hook of ours among somebody
    else's (the user moved it) is taken out of there."""
    if len(present) == 1 and _count(text, present[0][:-1]) == 1:
        place = present[0][:3]
        return text if jsontext.read_value(text, place) == group else jsontext.put_value(text, place, group)
    for path in reversed(present):
        text = jsontext.drop_item(text, path)
        text = text if _count(text, path[:-1]) else jsontext.drop_item(text, path[:3])
    listed: Path = ("hooks", event)
    if jsontext.find_item(text, listed[:1]) is None:
        text = jsontext.put_value(text, listed[:1], {})
    if jsontext.find_item(text, listed) is None:
        text = jsontext.put_value(text, listed, [])
    return jsontext.put_value(text, (*listed, _count(text, listed)), group)


def _without(text: str, path: Path, before: Before) -> str:
    """Takes out the hook at ``path``, and what is empty without it."""
    text = jsontext.drop_item(text, path)
    if _count(text, path[:4]):
        return text
    text = jsontext.drop_item(text, path[:3])
    for parent in (path[:2], path[:1]):
        if _count(text, parent) or ".".join(map(str, parent)) in before.empty:
            return text
        text = jsontext.drop_item(text, parent)
    return text


def _without_prefix(text: str, ours: frozenset[str], before: Before) -> str:
    present = jsontext.read_value(text, PREFIX)
    if not isinstance(present, str) or present not in ours:
        return text
    if before.former is not None:
        return jsontext.put_value(text, PREFIX, before.former)
    text = jsontext.drop_item(text, PREFIX)
    return text if _count(text, ("env",)) or "env" in before.empty else jsontext.drop_item(text, ("env",))


def _count(text: str, path: Path) -> int:
    place = jsontext.find_item(text, path)
    return len(jsontext.list_items(text, place.value)) if place else 0
