"""Who asks and what came before, read from one request of the Messages API. Pure; what is answered: ``choose.py``.

Claude Code 2.1.330 sends the whole conversation each time, with the headers ``x-claude-code-session-id`` and, from a
subagent, ``x-claude-code-agent-id`` (``x-claude-code-parent-agent-id`` too, if a subagent started it). Between the
user's messages there are some with the role ``system``, and a prompt comes with reminders around it as text blocks of
their own. A request without tools is a side errand (a title, a summary, a quota check).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

MAIN = "main"
SESSION, AGENT, PARENT = "x-claude-code-session-id", "x-claude-code-agent-id", "x-claude-code-parent-agent-id"


class _Block(msgspec.Struct, frozen=True, kw_only=True):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[_Block]

    def blocks(self) -> list[_Block]:
        return [_Block(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that matter here."""

    model: str = ""
    messages: list[_Message] = []
    tools: list[msgspec.Raw] = []
    stream: bool = False


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that was made and, as far as it is there, its result."""

    id: str
    name: str
    input: Any
    answered: bool = False
    error: bool = False
    text: str = ""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """``prompt``: all that the user said before the first answer. ``answers``: the calls of each earlier answer (of
    a text, none). ``last``: all text since the last answer, results included."""

    session: str
    agent: str = MAIN
    parent: str = ""
    model: str = ""
    side: bool = False
    stream: bool = False
    prompt: str = ""
    answers: tuple[tuple[Made, ...], ...] = ()
    last: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.session, self.agent

    @property
    def results(self) -> tuple[Made, ...]:
        """Those of the last answer's calls."""
        return tuple(made for made in self.answers[-1] if made.answered) if self.answers else ()


def read(headers: dict[str, str], raw: bytes) -> Conversation:
    """Raises msgspec.DecodeError (ValidationError is one) for what is no request."""
    body = _decode(raw)
    agent = headers.get(AGENT, "") or MAIN
    results = {b.tool_use_id: b for m in body.messages for b in m.blocks() if b.type == "tool_result"}
    said = [m for m in body.messages if m.role == "assistant"]
    return Conversation(
        session=headers.get(SESSION, ""),
        agent=agent,
        parent=headers.get(PARENT, ""),
        model=body.model,
        side=not body.tools and agent == MAIN,
        stream=body.stream,
        prompt="\n".join(_user_texts(_until_answer(body.messages))),
        answers=tuple(tuple(_made(b, results) for b in m.blocks() if b.type == "tool_use") for m in said),
        last="\n".join(_user_texts(_since_answer(body.messages))),
    )


_decode = msgspec.json.Decoder(Body).decode


def _until_answer(messages: list[_Message]) -> Iterator[_Message]:
    for message in messages:
        if message.role == "assistant":
            return
        yield message


def _since_answer(messages: list[_Message]) -> list[_Message]:
    places = [place for place, message in enumerate(messages) if message.role == "assistant"]
    return messages[places[-1] + 1 :] if places else messages


def _user_texts(messages: Iterator[_Message] | list[_Message]) -> Iterator[str]:
    for message in messages:
        if message.role == "user":
            for block in message.blocks():
                yield block.text or _text(block.content)


def _text(content: object) -> str:
    """A result's content is a text or a list of blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return ""


def _made(block: _Block, results: dict[str, _Block]) -> Made:
    result = results.get(block.id)
    if result is None:
        return Made(id=block.id, name=block.name, input=block.input)
    error = bool(result.is_error)
    text = _text(result.content)
    return Made(id=block.id, name=block.name, input=block.input, answered=True, error=error, text=text)
