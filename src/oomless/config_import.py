"""The settings that the incident's report recommends (``.claude/config.json``), taken over as far as there are such.
Pure: text in, text out.

Covers: reading those four keys, which of them have an effect here and why the others have none, and the user's
``config.toml`` with one setting put in, its comments and the rest kept. Not here: the settings themselves
(``config.py``) and the two files (``cli/config.py``). tomlkit is loaded only when a text is made.
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


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    why: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """``max_parallel_subagents`` is None if the file does not say it."""

    max_parallel_subagents: int | None
    skipped: tuple[Skipped, ...]


def uncommented(text: str) -> str:
    """Lines of comment (the report's own text begins with one) made empty. No string in JSON goes over a line's end,
    so that such a line is in none."""
    return "\n".join("" if line.lstrip().startswith("//") else line for line in text.split("\n"))


def read(text: str, name: str) -> Incident:
    """Raises UsageError for whatever is not one of the four keys with a value that it can have."""
    found = jsontext.parse(uncommented(text), name)
    if not isinstance(found, dict):
        raise UsageError(f"{name} cannot be imported", "it is not a JSON object", f"it may have {', '.join(KEYS)}")
    for key, value in found.items():
        if key not in KEYS:
            raise UsageError(f"{name}: {key}", "there is no such setting", f"there are: {', '.join(KEYS)}")
        if expected := _mistake(key, value):
            raise UsageError(f"{name}: {key}", "the value cannot be used", f"expected {expected}")
    most = found.get("maxParallelSubagents")
    return Incident(
        max_parallel_subagents=None if most is None else int(most),
        skipped=tuple(Skipped(key=key, why=WITHOUT_EFFECT[key]) for key in found if key in WITHOUT_EFFECT),
    )


def _mistake(key: str, value: object) -> str | None:
    """What is expected, if the value is not that. Numbers come as floats (``jsontext.parse``)."""
    match key:
        case "maxParallelSubagents":
            fits = isinstance(value, float) and value.is_integer() and 1 <= value <= MOST
            return None if fits else f"a whole number from 1 to {MOST}"
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


def names_any(text: str) -> bool:
    """Whether a file has one of the four keys, in order or not."""
    try:
        found = jsontext.parse(uncommented(text), "")
    except UsageError:
        return False
    return isinstance(found, dict) and not found.keys().isdisjoint(KEYS)


def with_setting(text: str, name: str, value: int) -> str:
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
