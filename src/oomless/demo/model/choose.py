"""Which turn of a script follows in a conversation: pure, and from the conversation alone.

The requester sends all that was said before with each request, so nothing is remembered here: a request that is sent
again after a broken connection gets the same answer, not the next one.
"""

from __future__ import annotations

import re

import msgspec

from oomless.demo.model.conversation import MAIN, Conversation, Made
from oomless.demo.model.script import LAST_WORDS, Call, Rule, Script, Turn

#: To a side errand of the program, such as a title for the session.
SIDE = Turn(text="A short task")
END = Turn(text=LAST_WORDS)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """``group`` and ``rule`` (its place in the script, -1: none fits) are those of the rule that fits."""

    turn: Turn
    group: str = ""
    rule: int = -1
    retry: int = 0


def choose(script: Script, conversation: Conversation) -> Choice:
    if conversation.side:
        return Choice(turn=SIDE)
    for place, rule in enumerate(script.rules):
        if fits(rule, conversation):
            turn, retry = _next(rule, conversation)
            return Choice(turn=turn, group=rule.group, rule=place, retry=retry)
    return Choice(turn=END)


def fits(rule: Rule, conversation: Conversation) -> bool:
    kind = MAIN if conversation.agent == MAIN else "subagent"
    return (
        rule.kind in ("any", kind)
        and rule.session in ("", conversation.session)
        and _has_word(conversation.prompt, rule.marker)
        and rule.last in conversation.last
        and rule.turn in (None, len(conversation.answers))
    )


def _has_word(text: str, word: str) -> bool:
    """``AGENT=news`` is not in ``AGENT=newsroom``."""
    return not word or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _next(rule: Rule, conversation: Conversation) -> tuple[Turn, int]:
    """The turn and which retry it is: the earlier answers are walked through to see where in the rule we are."""
    place = retries = 0
    again: tuple[Call, ...] = ()
    earlier = () if rule.last or rule.turn is not None else conversation.answers
    for made in earlier:
        turn = rule.turns[place] if place < len(rule.turns) else END
        again = _failed(turn, made) if turn.on_error and retries < turn.on_error.retries else ()
        place, retries = (place, retries + 1) if again else (place + 1, 0)
    if place >= len(rule.turns):
        return END, 0
    turn = rule.turns[place]
    if again and turn.on_error:
        return msgspec.structs.replace(turn, text="", calls=again, hold=None, delay=turn.on_error.delay), retries
    return turn, 0


def _failed(turn: Turn, made: tuple[Made, ...]) -> tuple[Call, ...]:
    wanted = turn.on_error.text if turn.on_error else ""
    return tuple(Call(name=m.name, input=m.input or {}) for m in made if m.error and wanted in m.text)
