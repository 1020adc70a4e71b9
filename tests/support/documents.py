"""What the README and the pages in ``docs/`` say, as data: console sessions, fenced blocks, commands and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "docs").glob("*.md")),
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(oomless [^`]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)")


class Step(NamedTuple):
    """One command of a console session, and the output that the page shows for it ("" if it shows none)."""

    command: str
    output: str


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def steps(block: str) -> list[Step]:
    """A console session by its commands; each begins with ``$ ``."""
    found: list[Step] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        else:
            assert found, f"output before the first command: {line}"
            found[-1] = Step(found[-1].command, found[-1].output + line + "\n")
    return found


def matches(expected: str, output: str) -> bool:
    """Whether the output is as the page shows it. ``...`` stands for any text, also of several lines; runs of blanks
    count as one."""
    parts = [re.escape(part) for part in re.split(r"\.\.\.", _plain(expected))]
    return re.fullmatch(".*?".join(parts), _plain(output), re.DOTALL) is not None


def _plain(text: str) -> str:
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in text.strip().splitlines())


def commands(page: Path) -> Iterator[str]:
    """Every command of ours that a page names in its text, with the alternatives of ``[...]`` and ``A|B`` as they
    stand."""
    for command in _INLINE.findall(page.read_text(encoding="utf-8")):
        yield " ".join(command.replace("\\|", "|").split())


def links(page: Path) -> list[str]:
    return [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
