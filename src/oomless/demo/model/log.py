"""The log of a scripted model: one JSON line when a request comes and one when it is answered, and how to read it.

Enough to compute who ran together and to see what the model saw: the results of tool calls or what was said since the
last answer (cut at ``LONGEST``), and what was answered. No header is in it but the ids: one of them is the API key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from oomless.demo.model.choose import Choice
from oomless.demo.model.conversation import Conversation

LONGEST = 4000


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of a tool call that was made by the answer before."""

    tool: str
    error: bool
    text: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``at``: seconds since the epoch. ``request`` joins the two lines of one request. ``event``: asked; then
    answered, or dropped: the requester went away first. ``turn``: how many answers there were before. ``last`` tells
    that the conversation is over as far as the script goes: an answer without calls."""

    at: float
    request: int
    event: Literal["asked", "answered", "dropped"]
    session: str
    agent: str
    parent: str = ""
    group: str = ""
    rule: int = -1
    turn: int
    retry: int = 0
    model: str = ""
    side: bool = False
    results: tuple[Result, ...] = ()
    said: str = ""
    text: str = ""
    calls: tuple[str, ...] = ()
    last: bool = False
    held: float = 0.0


class Log:
    """Appends to ``path``; None keeps the entries in memory only (``entries``)."""

    def __init__(self, path: str | None) -> None:
        self.entries: list[Entry] = []
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if path else None

    def add(self, entry: Entry) -> None:
        if self._fd is None:
            self.entries.append(entry)
        else:
            os.write(self._fd, msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def asked(request: int, conversation: Conversation, choice: Choice) -> Entry:
    results = tuple(Result(tool=m.name, error=m.error, text=m.text[:LONGEST]) for m in conversation.results)
    return Entry(
        at=time.time(),
        request=request,
        event="asked",
        session=conversation.session,
        agent=conversation.agent,
        parent=conversation.parent,
        group=choice.group,
        rule=choice.rule,
        turn=len(conversation.answers),
        retry=choice.retry,
        model=conversation.model,
        side=conversation.side,
        results=results,
        said="" if results else conversation.last[-LONGEST:],
    )


def answered(before: Entry, choice: Choice, *, dropped: bool) -> Entry:
    now = time.time()
    return msgspec.structs.replace(
        before,
        at=now,
        event="dropped" if dropped else "answered",
        results=(),
        said="",
        text=choice.turn.text[:LONGEST],
        calls=tuple(call.name for call in choice.turn.calls),
        last=not choice.turn.calls,
        held=now - before.at,
    )


def read(path: str | Path) -> list[Entry]:
    """A last line that is still being written is left out."""
    whole = Path(path).read_bytes().rpartition(b"\n")[0]
    return [_decode(line) for line in whole.splitlines()]


_decode = msgspec.json.Decoder(Entry).decode


def peak(entries: Iterable[Entry], group: str) -> int:
    """How many conversations of ``group`` ran at the same time at most: each from its first request until it was
    answered without calls, or dropped."""
    running: set[tuple[str, str]] = set()
    most = 0
    for entry in entries:
        if entry.group != group or entry.side:
            continue
        if entry.event == "asked":
            running.add((entry.session, entry.agent))
            most = max(most, len(running))
        elif entry.last or entry.event == "dropped":
            running.discard((entry.session, entry.agent))
    return most
