"""How many there are: a stated number against the list below it, and two lists of the same processes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

from oomless.reports.diagnose.contradictions.found import Contradiction
from oomless.reports.diagnose.facts import Case, Enumeration

#: Words that any list of processes may have.
_COMMON = frozenset(
    {
        *(
            "process",
            "processe",
            "memory",
            "running",
            "instance",
            "parent",
            "spawned",
            "with",
            "main",
            "total",
            "list",
        ),
        *(
            "from",
            "that",
            "this",
            "these",
            "those",
            "which",
            "each",
            "their",
            "were",
            "have",
            "into",
            "after",
            "before",
        ),
        *("evidence", "actual", "tree", "code", "node", "there", "they", "found", "monitor", "usage"),
    }
)
#: Without the endings of plurals.
_PROGRAMS = frozenset(
    {
        *("process", "instanc", "server", "helper", "agent", "subagent", "sub-agent", "worker", "task", "session"),
        *(
            "program",
            "command",
            "pid",
            "host",
            "window",
            "extension",
            "terminal",
            "tab",
            "container",
            "daemon",
            "job",
        ),
        *("tool", "servic", "invocation", "children", "orphan", "clon", "copi"),
    }
)
_PART = re.compile(r"[A-Za-z]{3,40}")
_WORD = re.compile(r"[A-Za-z]{4,40}")
#: Of more lists than that a text is no report that a person wrote.
_MOST = 200


def stated_count(case: Case) -> Iterator[Contradiction]:
    """``9 servers:`` above a list of another number, of items and of the instances that they name."""
    for one in case.enumerations:
        if one.count is None or one.partial:
            continue
        number, items = one.count.number, len(one.items)
        instances = sum(item.instances or 1 for item in one.items)
        pids = sum(len(item.pids) for item in one.items)
        if number not in (items, instances, pids) and _is_of(one, one.count.what):
            yield Contradiction(
                rule="stated-count",
                about=f"how many {one.count.what} there are",
                values=(f"{number} stated", f"{instances} listed"),
                lines=(one.count.line, *(item.line for item in one.items)),
            )


def _is_of(listed: Enumeration, what: str) -> bool:
    """Whether the list is one of what was counted: programs of some sort, or items that have that name."""
    words = {word.lower().removesuffix("s").removesuffix("e") for word in what.split()}
    items = {
        word.lower().removesuffix("s").removesuffix("e") for one in listed.items for word in _PART.findall(one.text)
    }
    return what.split()[-1].lower().removesuffix("s").removesuffix("e") in _PROGRAMS or bool(words & items)


def two_lists(case: Case) -> Iterator[Contradiction]:
    """The same processes are listed twice under the same name, and not as many."""
    named = [one for one in case.enumerations if _pids(one) and not one.partial][:_MOST]
    for one, other in combinations(named, 2):
        both = _pids(one) & _pids(other)
        if len(_pids(one)) == len(_pids(other)) or len(both) < 2 or one.moment != other.moment:
            continue
        words = _words(one) & _words(other)
        if words and len(both) * 2 > max(len(_pids(one)), len(_pids(other))):
            yield Contradiction(
                rule="two-lists",
                about=f"how many processes there are that both lists call {max(sorted(words), key=len)}",
                values=(f"{len(_pids(one))} listed", f"{len(_pids(other))} listed"),
                lines=tuple(item.line for listed in (one, other) for item in listed.items),
            )


def _pids(one: Enumeration) -> frozenset[int]:
    return frozenset(pid for item in one.items for pid in item.pids)


def _words(one: Enumeration) -> frozenset[str]:
    text = " ".join((one.lead, *(item.text for item in one.items)))
    return frozenset(word.lower().removesuffix("s") for word in _WORD.findall(text)) - _COMMON
