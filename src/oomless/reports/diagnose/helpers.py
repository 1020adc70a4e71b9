"""Editors' helper programs in a text: which pids are extension hosts, and on what evidence. Pure.

An extension host is one process a window, started with it and ended with it; agents run in none of their own there.
In tables the catalog knows them by their command; what is here is for prose, where they only have a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from oomless.reports.diagnose.facts import CaseProcess, Mention

_HELPER = re.compile(
    r"\b(?:VS ?Code|Code(?: - Insiders)?|VSCodium|Cursor|Windsurf)\b[\w ]{0,20}\bHelper\b(?!s? \((?:Renderer|GPU)\))",
    re.IGNORECASE,
)
_PLUGIN = re.compile(r"\bHelper \(Plugin\)|\b(?:Plugin|Node) Helper\b|\bextension host\b", re.IGNORECASE)
_MAIN = re.compile(r"\b(?:VS ?Code|VSCodium|Cursor|Windsurf)\b[^,;:]{0,20}\bmain process\b", re.IGNORECASE)
_PROGRAM = re.compile(r"\b(?:Code(?: - Insiders)?|VSCodium|Cursor) Helper \(Plugin\)")
#: Numbers are given in order: what a program starts at once has numbers close to its own, and to each other.
NEAR, TOGETHER = 256, 4
_NAMED = 6


def named(document: Iterable[tuple[int, str]]) -> tuple[int, ...]:
    """The lines that name the helper program of extension hosts in full."""
    return tuple(number for number, text in document if _PROGRAM.search(text))


def is_main(mention: Mention) -> bool:
    return _MAIN.search(mention.said) is not None


def is_helper(mentions: Iterable[Mention], anywhere: bool) -> bool:
    """``anywhere``: the text names the program in full somewhere, so that "Code Helper" is short for it."""
    texts = [text for mention in mentions for text in (mention.said, mention.lead)]
    helper = any(_HELPER.search(text) for text in texts)
    return any(_PLUGIN.search(text) for text in texts) or (helper and anywhere)


def evidence(process: CaseProcess, by_pid: Mapping[int, CaseProcess], named_in: tuple[int, ...]) -> tuple[str, ...]:
    """Why a process is an extension host, beside its command."""
    lines: list[str] = []
    if process.called:
        lines.append(f"{where(process.lines)}: called {_called(process)}")
    if named_in and not process.command:
        lines.append(
            f"{where(named_in)}: the program is the editor's Helper (Plugin), which holds extensions (catalog:"
            " vscode, name of the helper program in the macOS bundle)"
        )
    parent = by_pid.get(process.ppid) if process.ppid is not None else None
    if parent is not None and parent.kind == "editor":
        lines.append(f"{where(parent.lines)}: its parent is PID {parent.pid}, the editor's main process")
    main = parent if parent is not None and parent.kind == "editor" else _main_before(process, by_pid.values())
    return (*lines, *(_started_together(process, main, by_pid.values()) if main is not None else ()))


def _main_before(process: CaseProcess, others: Iterable[CaseProcess]) -> CaseProcess | None:
    """The main process of an editor with the number next below, where no parent is given."""
    before = [
        other
        for other in others
        if other.kind == "editor" and "Helper" not in other.command and 0 < process.pid - other.pid <= NEAR
    ]
    return max(before, key=lambda other: other.pid, default=None) if process.ppid is None else None


def _called(process: CaseProcess) -> str:
    return ", ".join(f'"{name}"' for name in process.called[:2])


def _started_together(process: CaseProcess, parent: CaseProcess, others: Iterable[CaseProcess]) -> list[str]:
    """Near the parent's number: started with the window, before any agent was."""
    hosts = (other.pid for other in others if other.kind == "extension-host")
    pids = sorted(pid for pid in hosts if 0 < pid - parent.pid <= NEAR)
    run = _run(pids, process.pid)
    if len(run) < 2:
        return []
    listed, after = ", ".join(str(pid) for pid in run), run[0] - parent.pid
    main = f"PID {parent.pid}, the editor's main process ({where(parent.lines)})"
    return [f"PIDs {listed} follow each other, {after} after {main}, as of programs that start with it"]


def _run(pids: list[int], pid: int) -> list[int]:
    """The numbers around ``pid`` that are close to one another."""
    run: list[int] = []
    for number in pids:
        if run and number - run[-1] > TOGETHER:
            if pid in run:
                break
            run = []
        run.append(number)
    return run if pid in run else []


def where(lines: Iterable[int]) -> str:
    """``line 3``, ``lines 3, 5``."""
    numbers = sorted(set(lines))
    shown = ", ".join(str(number) for number in numbers[:_NAMED])
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
