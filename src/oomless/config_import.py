"""The four keys that the incident's report recommends for ``.claude/config.json``: which of them have an effect here,
why the others have none, and the user's ``config.toml`` with the one setting put in and the rest kept.

Pure: text in, text out. tomlkit is loaded only when a text is made.
"""

from __future__ import annotations

import tomllib

import msgspec

from oomless import jsontext
from oomless.errors import ConfigError, UsageError
from oomless.units import parse_size

#: Claude Code 2.1.330 has none of these keys, and does not read that file (searched in its settings' types).
IGNORED_BY_CLAUDE = "Claude Code itself ignores such a file: it has no such settings"
KEYS = ("maxParallelSubagents", "subagentMemoryLimit", "preferentialModel", "mcpServerSharing")
SETTING = "max_parallel_subagents"
MOST = 10**6
WITHOUT_EFFECT = {
    "subagentMemoryLimit": "a subagent inside a session has no memory of its own that could be limited; "
    "oomless run --memory and [classes.NAME] limit what runs as processes",
    "preferentialModel": "oomless does not choose models in this version",
    "mcpServerSharing": "oomless does not share servers between sessions in this version",
}


class SkippedKey(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    why: str


class IncidentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``max_parallel_subagents`` is None if the file does not have it."""

    max_parallel_subagents: int | None
    skipped: tuple[SkippedKey, ...]


def blank_comments(text: str) -> str:
    """Lines of comment (the report's own text begins with one) made empty. A JSON string cannot contain the end of a
    line, so such a line is never part of one."""
    return "\n".join("" if line.lstrip().startswith("//") else line for line in text.split("\n"))


def read_incident(text: str, name: str) -> IncidentSettings:
    """Raises UsageError for a key that is not one of the four, or a value that it cannot have."""
    values = jsontext.parse_json(blank_comments(text), name)
    if not isinstance(values, dict):
        raise UsageError(f"{name} cannot be imported", "it is not a JSON object", f"it may have {', '.join(KEYS)}")
    for key, value in values.items():
        if key not in KEYS:
            raise UsageError(f"{name}: {key}", "there is no such setting", f"there are: {', '.join(KEYS)}")
        if expected := _expected_value(key, value):
            raise UsageError(f"{name}: {key}", "the value cannot be used", f"expected {expected}")
    most = values.get("maxParallelSubagents")
    return IncidentSettings(
        max_parallel_subagents=None if most is None else int(most),
        skipped=tuple(SkippedKey(key=key, why=WITHOUT_EFFECT[key]) for key in values if key in WITHOUT_EFFECT),
    )


def _expected_value(key: str, value: object) -> str | None:
    """What is expected if the value is something else, else None. Numbers come as floats (``jsontext.parse``)."""
    match key:
        case "maxParallelSubagents":
            valid = isinstance(value, float) and value.is_integer() and 1 <= value <= MOST
            return None if valid else f"a whole number from 1 to {MOST}"
        case "subagentMemoryLimit":
            return None if _is_size(value) else "an amount of memory such as 512MB"
        case "preferentialModel":
            return None if isinstance(value, str) and value.strip() else "the name of a model"
        case _:
            return None if isinstance(value, bool) else "true or false"


def _is_size(value: object) -> bool:
    try:
        return isinstance(value, str) and parse_size(value) > 0
    except UsageError:
        return False


def has_known_key(text: str) -> bool:
    """Whether a file has one of the four keys, whatever its value."""
    try:
        values = jsontext.parse_json(blank_comments(text), "")
    except UsageError:
        return False
    return isinstance(values, dict) and not values.keys().isdisjoint(KEYS)


def put_setting(text: str, name: str, value: int) -> str:
    """The settings file's text with ``max_parallel_subagents = value``; ``text`` is valid TOML."""
    import tomlkit

    old = tomllib.loads(text)
    if old.get(SETTING) == value:
        return text
    document = tomlkit.parse(text)
    document[SETTING] = value
    new, line = tomlkit.dumps(document), f"{SETTING} = {value}"
    if "\r\n" in text:
        new = new.replace(f"{line}\n", f"{line}\r\n", 1)
    if tomllib.loads(new) != {**old, SETTING: value}:
        raise ConfigError(f"{name} cannot be edited", "its form is not understood", f"write {line} there")
    return new
