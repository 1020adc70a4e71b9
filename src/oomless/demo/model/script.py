"""The script of a scripted model: rules, tried in order, and the turns of the first that fits the asker.

A script says nothing about time-outs of the API or the wire; ``server.py`` obeys the holds, ``choose.py`` finds the
turn. As JSON it is the same fields::

    {"rules": [
      {"kind": "main", "marker": "AGENT=news", "turns": [
        {"calls": [{"name": "Bash", "input": {"command": "echo hi"}}]},
        {"calls": [{"name": "Agent", "input": {"description": "a", "prompt": "SUB=1", "subagent_type": "claude"}}],
         "on_error": {"text": "hook error", "retries": 20, "delay": 0.5}},
        {"text": "all is done"}]},
      {"kind": "subagent", "group": "subagents", "turns": [
        {"text": "found nothing", "hold": {"group": "subagents", "count": 2, "seconds": 30}}]}]}
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from oomless.errors import UsageError

Kind = Literal["any", "main", "subagent"]
#: After the last turn of a rule, and to whom no rule fits.
LAST_WORDS = "Done."


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool call. Several in a turn are made at once."""

    name: str
    input: dict[str, Any] = {}


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer is held until ``count`` conversations of ``group`` run at the same time, at most ``seconds``. Once
    reached, it stays open for all that come later, or the last of an odd number would wait in vain; with ``every``
    each answer waits anew."""

    group: str
    count: int
    seconds: float
    every: bool = False


class WaitFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer is held until ``path`` exists, at most ``seconds``."""

    path: str
    seconds: float


class OnError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls of this turn that came back as an error with ``text`` in it are made again, up to ``retries`` times in
    all, each after ``delay`` seconds; their siblings are not. After that the script goes on."""

    text: str = ""
    retries: int
    delay: float = 0.0


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer: text, calls or both. ``hold``, ``wait_file`` and ``delay`` are waited for in that order."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    hold: Hold | None = None
    wait_file: WaitFile | None = None
    delay: float = 0.0
    on_error: OnError | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fits a conversation of that ``kind`` whose first prompt has ``marker`` in it as a word, in the session of that
    id (both: any, if empty). ``last``: only if what came since the last answer (results, messages) has this text in
    it. ``turn``: only as the answer after that many earlier ones. A rule with one of these two answers with its first
    turn, the others with the turn that is next in the conversation. ``group`` is what holds count.
    """

    kind: Kind = "any"
    marker: str = ""
    session: str = ""
    last: str = ""
    turn: int | None = None
    group: str = ""
    turns: tuple[Turn, ...]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


def parse(text: bytes, name: str = "the script") -> Script:
    try:
        return msgspec.json.decode(text, type=Script)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"cannot use {name}", str(error), "write it as src/oomless/demo/model/script.py says"
        ) from None


def load(path: str) -> Script:
    try:
        with open(path, "rb") as file:
            return parse(file.read(), path)
    except OSError as error:
        raise UsageError(f"cannot read the script {path}", error.strerror or str(error), "") from None


def dump(script: Script) -> bytes:
    return msgspec.json.encode(script)
