"""JSON text edited in place: a member or element is put in, replaced or taken out, every other byte stays.

Covers: strict parsing whose mistakes name line and column, finding a value by its path, and the three edits, in the
file's own indentation and line ends. Taking out what was just put in gives the text back as it was. Not here: the
file (``userfile.py``) and what is edited (``hosts/claude_code/settings.py``).

A path is a tuple of names and indices. Text given to the edits has passed ``parse``.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

from oomless.errors import UsageError

Path = tuple[str | int, ...]
_SPACE = re.compile(r"[ \t\r\n]*")
_value_at = json.JSONDecoder(parse_int=float).raw_decode


class _Mistake(ValueError):
    pass


def parse(text: str, name: str) -> object:
    """The value; raises UsageError naming ``name:line:column``. Stricter than ``json``: no NaN, no name twice.
    Numbers with a point or not are floats (an integer of more than 4300 digits is no reason to fail)."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=float)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}:{error.lineno}:{error.colno}: not valid JSON", error.msg, "correct it") from None
    except _Mistake as error:
        raise UsageError(f"{name}: not valid JSON", str(error), "correct it") from None
    except RecursionError:
        raise UsageError(f"{name}: not usable", "it is nested too deeply", "correct it") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Mistake(f"{json.dumps(twice)} is there twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Mistake(f"{name} is not a number in JSON")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A member or element: from ``start`` (the name's quote, if it has one) to ``end``, the value from ``value``."""

    key: str | int
    start: int
    value: int
    end: int


def items(text: str, at: int) -> list[Item]:
    """Those of the object or array that opens at ``at``."""
    named, found = text[at] == "{", list[Item]()
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        start, key = at, len(found)
        if named:
            key, at = _value_at(text, at)
            at = _skip(text, _skip(text, at) + 1)
        value = at
        at = _value_at(text, at)[1]
        found.append(Item(key=key, start=start, value=value, end=at))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def find(text: str, path: Path) -> Item | None:
    start = _skip(text, 0)
    found = Item(key="", start=start, value=start, end=_value_at(text, start)[1])
    for part in path:
        inside = items(text, found.value) if text[found.value] in "{[" else []
        match = [item for item in inside if item.key == part and type(item.key) is type(part)]
        if not match:
            return None
        found = match[0]
    return found


def value(text: str, path: Path) -> object:
    """What is there; None if nothing is."""
    found = find(text, path)
    return None if found is None else _value_at(text, found.value)[0]


def put(text: str, path: Path, value: object) -> str:
    """Replaces the value at ``path``, or adds it as the last member or element of its parent, which is there."""
    found = find(text, path)
    if found is not None:
        written = _dump(value, _Layout.of(text), _margin(text, found.start))
        return text[: found.value] + written + text[found.end :]
    return _add(text, path, value)


def drop(text: str, path: Path) -> str:
    """Takes out the member or element, which is there, and its comma."""
    parent, found = find(text, path[:-1]), find(text, path)
    assert parent is not None
    assert found is not None
    inside = items(text, parent.value)
    at = inside.index(found)
    if len(inside) == 1:
        start, end = parent.value + 1, parent.end - 1
    elif at == len(inside) - 1:
        start, end = inside[at - 1].end, found.end
    else:
        start, end = found.start, inside[at + 1].start
    return text[:start] + text[end:]


def _add(text: str, path: Path, value: object) -> str:
    parent, layout = find(text, path[:-1]), _Layout.of(text)
    assert parent is not None
    name = f"{json.dumps(path[-1], ensure_ascii=False)}: " if isinstance(path[-1], str) else ""
    inside = items(text, parent.value)
    if inside:
        last = inside[-1]
        margin = None if layout.inline else _margin(text, last.start)
        gap = ", " if margin is None else f",{layout.newline}{margin}"
        return text[: last.end] + gap + name + _dump(value, layout, margin) + text[last.end :]
    outer = _margin(text, parent.start) if not layout.inline else None
    margin = None if outer is None else outer + layout.indent
    before = "" if margin is None else layout.newline + margin
    after = "" if outer is None else layout.newline + outer
    inner = before + name + _dump(value, layout, margin) + after
    return text[: parent.value + 1] + inner + text[parent.end - 1 :]


def _dump(value: object, layout: _Layout, margin: str | None) -> str:
    """On one line without a margin, else its further lines begin with that."""
    if layout.inline or margin is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=layout.indent).split("\n")
    return f"{layout.newline}{margin}".join(lines)


def _margin(text: str, at: int) -> str | None:
    """The white space before ``at`` on its line; None if there is anything else."""
    start = text.rfind("\n", 0, at) + 1
    before = text[start:at]
    return before if not before.strip() else None


class _Layout(msgspec.Struct, frozen=True, kw_only=True):
    indent: str
    newline: str
    inline: bool

    @classmethod
    def of(cls, text: str) -> _Layout:
        """The first indented line tells the indentation; a file of one line that holds anything stays one line."""
        first = re.search(r"\n([ \t]+)[^ \t\r\n]", text)
        body = text.strip()
        return cls(
            indent=first[1] if first else "  ",
            newline="\r\n" if "\r\n" in text else "\n",
            inline="\n" not in body and bool(body.strip("{} \t")),
        )


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


_SECRET = re.compile(
    r'("[^"\\]*(?:key|token|secret|passw|authorization|credential)[^"\\]*"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE
)


def masked(text: str) -> str:
    """For people's eyes: the text of members whose name speaks of a secret is ``***``."""
    return _SECRET.sub(r'\1"***"', text)
