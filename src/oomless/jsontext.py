"""JSON text edited in place: a member or element is put in, replaced or taken out, every other byte stays.

Parsing is strict, and its mistakes name line and column. Edits follow the file's own indentation and line ends;
taking out what was just put in gives the text back as it was.

A path is a tuple of names and indices. Text given to the edits has passed ``parse_json``.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

from oomless.errors import UsageError

Path = tuple[str | int, ...]
_SPACE = re.compile(r"[ \t\r\n]*")
_decode_at = json.JSONDecoder(parse_int=float).raw_decode


class _Mistake(ValueError):
    pass


def parse_json(text: str, name: str) -> object:
    """Returns the value; raises UsageError naming ``name:line:column``.

    Stricter than ``json``: no NaN, and no name twice in one object. All numbers are floats, as an integer of more
    than 4300 digits is no reason to fail.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=float)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}:{error.lineno}:{error.colno}: not valid JSON", error.msg, "correct it") from None
    except _Mistake as error:
        raise UsageError(f"{name}: not valid JSON", str(error), "correct it") from None
    except RecursionError:
        raise UsageError(f"{name}: not usable", "it is nested too deeply", "correct it") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise _Mistake(f"{json.dumps(duplicate)} is there twice in one object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise _Mistake(f"{name} is not a number in JSON")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A member or element: from ``start`` (the name's quote, if it has one) to ``end``, the value from ``value``."""

    key: str | int
    start: int
    value: int
    end: int


def list_items(text: str, position: int) -> list[Item]:
    """Returns the members or elements of the object or array that opens at ``position``."""
    is_object, items = text[position] == "{", list[Item]()
    position = _skip_space(text, position + 1)
    while text[position] not in "}]":
        start, key = position, len(items)
        if is_object:
            key, position = _decode_at(text, position)
            position = _skip_space(text, _skip_space(text, position) + 1)
        value = position
        position = _decode_at(text, position)[1]
        items.append(Item(key=key, start=start, value=value, end=position))
        position = _skip_space(text, position)
        if text[position] == ",":
            position = _skip_space(text, position + 1)
    return items


def find_item(text: str, path: Path) -> Item | None:
    start = _skip_space(text, 0)
    item = Item(key="", start=start, value=start, end=_decode_at(text, start)[1])
    for part in path:
        items = list_items(text, item.value) if text[item.value] in "{[" else []
        matches = [item for item in items if item.key == part and type(item.key) is type(part)]
        if not matches:
            return None
        item = matches[0]
    return item


def read_value(text: str, path: Path) -> object:
    """Returns the value at ``path``; None if nothing is there."""
    item = find_item(text, path)
    return None if item is None else _decode_at(text, item.value)[0]


def put_value(text: str, path: Path, value: object) -> str:
    """Replaces the value at ``path``, or adds it as the last member or element of its parent, which must be there."""
    item = find_item(text, path)
    if item is not None:
        written = _dump(value, _Layout.of(text), _margin(text, item.start))
        return text[: item.value] + written + text[item.end :]
    return _add(text, path, value)


def drop_item(text: str, path: Path) -> str:
    """Takes out the member or element, which must be there, and its comma."""
    parent, item = find_item(text, path[:-1]), find_item(text, path)
    assert parent is not None
    assert item is not None
    items = list_items(text, parent.value)
    index = items.index(item)
    if len(items) == 1:
        start, end = parent.value + 1, parent.end - 1
    elif index == len(items) - 1:
        start, end = items[index - 1].end, item.end
    else:
        start, end = item.start, items[index + 1].start
    return text[:start] + text[end:]


def _add(text: str, path: Path, value: object) -> str:
    parent, layout = find_item(text, path[:-1]), _Layout.of(text)
    assert parent is not None
    name = f"{json.dumps(path[-1], ensure_ascii=False)}: " if isinstance(path[-1], str) else ""
    items = list_items(text, parent.value)
    if items:
        last = items[-1]
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
    """Returns one line if there is no margin; else the lines after the first begin with it."""
    if layout.inline or margin is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=layout.indent).split("\n")
    return f"{layout.newline}{margin}".join(lines)


def _margin(text: str, position: int) -> str | None:
    """Returns the white space before ``position`` on its line; None if anything else is before it."""
    start = text.rfind("\n", 0, position) + 1
    before = text[start:position]
    return before if not before.strip() else None


class _Layout(msgspec.Struct, frozen=True, kw_only=True):
    indent: str
    newline: str
    inline: bool

    @classmethod
    def of(cls, text: str) -> _Layout:
        """The first indented line sets the indentation; a file of one line that is not empty stays one line."""
        indented = re.search(r"\n([ \t]+)[^ \t\r\n]", text)
        body = text.strip()
        return cls(
            indent=indented[1] if indented else "  ",
            newline="\r\n" if "\r\n" in text else "\n",
            inline="\n" not in body and bool(body.strip("{} \t")),
        )


def _skip_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


_SECRET = re.compile(
    r'("[^"\\]*(?:key|token|secret|passw|authorization|credential)[^"\\]*"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE
)


def mask_secrets(text: str) -> str:
    """Returns the text as people may see it: values of members whose name suggests a secret are ``***``."""
    return _SECRET.sub(r'\1"***"', text)
