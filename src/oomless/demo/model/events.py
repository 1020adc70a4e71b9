"""A turn in the words of the Messages API: as one object, or as the server-sent events of a stream.

The events and their order are those that Claude Code 2.1.330 takes: message_start, then for each block start, delta,
stop, then message_delta with the reason to stop, then message_stop. What is in a turn: ``script.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from oomless.demo.model.script import Turn


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int


class Text(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class ToolUse(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: str = "assistant"
    model: str
    content: tuple[Text | ToolUse, ...]
    stop_reason: str | None
    stop_sequence: str | None = None
    usage: Usage


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text_delta"):
    text: str


class InputDelta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="input_json_delta"):
    partial_json: str


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    stop_reason: str | None
    stop_sequence: str | None = None


class MessageStart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message_start"):
    message: Reply


class BlockStart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_start"):
    index: int
    content_block: Text | ToolUse


class BlockDelta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_delta"):
    index: int
    delta: TextDelta | InputDelta


class BlockStop(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="content_block_stop"):
    index: int


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message_delta"):
    delta: Stop
    usage: Usage


class MessageStop(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message_stop"):
    pass


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class ApiError(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """``error``: its kind in the API's words and a text."""

    error: dict[str, str]


class Count(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int


def reply(turn: Turn, model: str, asked_bytes: int) -> Reply:
    """A turn without text and calls still says something: an empty answer is an error to the program."""
    text = turn.text if turn.text or turn.calls else "."
    blocks: list[Text | ToolUse] = [Text(text=text)] if text else []
    for call in turn.calls:
        blocks.append(ToolUse(id=f"toolu_{secrets.token_hex(12)}", name=call.name, input=call.input))
    return Reply(
        id=f"msg_{secrets.token_hex(12)}",
        model=model,
        content=tuple(blocks),
        stop_reason="tool_use" if turn.calls else "end_turn",
        usage=Usage(input_tokens=tokens(asked_bytes), output_tokens=tokens(len(msgspec.json.encode(blocks)))),
    )


def tokens(size: int) -> int:
    """Four bytes a token: a rule of thumb, nothing depends on it."""
    return size // 4 + 1


def events(whole: Reply) -> Iterator[Event]:
    yield MessageStart(message=msgspec.structs.replace(whole, content=(), stop_reason=None))
    for index, block in enumerate(whole.content):
        if isinstance(block, Text):
            yield BlockStart(index=index, content_block=Text(text=""))
            yield BlockDelta(index=index, delta=TextDelta(text=block.text))
        else:
            yield BlockStart(index=index, content_block=msgspec.structs.replace(block, input={}))
            yield BlockDelta(index=index, delta=InputDelta(partial_json=msgspec.json.encode(block.input).decode()))
        yield BlockStop(index=index)
    yield MessageDelta(delta=Stop(stop_reason=whole.stop_reason), usage=whole.usage)
    yield MessageStop()


def as_sse(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), msgspec.json.encode(event))
