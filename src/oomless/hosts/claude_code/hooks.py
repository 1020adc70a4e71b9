"""Claude Code's hooks: its JSON to typed events, and our decision to its JSON. Pure, and no I/O.

As of 2.1.330. A subagent is the tool ``Agent`` (``Task`` in older versions and still in some lists). In the
background, which is the default, PostToolUse comes at once and names the agent, about when SubagentStart does; in
the foreground it comes when the agent has finished. SubagentStart carries no ``tool_use_id``, fires again for a
resumed agent and for each message of a teammate, and cannot be refused.

An admitted request is answered with ``{}`` and not with ``allow``: that would skip the user's own permission rules.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from oomless.hosts.claude_code.facts import FACTS
from oomless.hosts.events import (
    HostEvent,
    OtherEvent,
    RequestFailed,
    SubagentLaunched,
    SubagentRequested,
    SubagentStarted,
    SubagentStopped,
)

TOOLS = ("Agent", "Task")
DEFAULT_AGENT_TYPE = "general-purpose"
#: A name has to fit in a line.
NAME_CHARS = 80
NOTHING = b"{}\n"
_T = TypeVar("_T")


class _Hook(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are read; there are others, and other events have them with other types."""

    hook_event_name: str
    session_id: str = ""
    cwd: str = ""
    agent_id: str | None = None
    agent_type: str | None = None
    tool_name: str = ""
    tool_use_id: str = ""
    tool_input: msgspec.Raw = msgspec.Raw(b"null")
    tool_response: msgspec.Raw = msgspec.Raw(b"null")


class _Input(msgspec.Struct, frozen=True, kw_only=True):
    subagent_type: str | None = None


class _Response(msgspec.Struct, frozen=True, kw_only=True):
    """``status``: async_launched (in the background), completed, or remote_launched (not on this machine)."""

    status: str = ""
    agentId: str | None = None


class _EventName(msgspec.Struct, frozen=True, kw_only=True):
    hook_event_name: str


class _Specific(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    hook_event_name: str
    permission_decision: str
    permission_decision_reason: str


class _Decision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    hook_specific_output: _Specific


_name = msgspec.json.Decoder(_EventName).decode
_hook = msgspec.json.Decoder(_Hook).decode


class ClaudeHooks:
    host = FACTS.name
    #: Claude Code gives a hook 600 s, and then goes on as if it had said nothing.
    answer_within = 590.0
    #: Five at once added 37 MB to one process of Claude Code, twenty 62 MB, and thirty one after another 53 MB.
    subagent_bytes = 40 * 10**6

    def parse_event(self, body: bytes) -> HostEvent:
        try:
            mapped = _EVENTS.get(_name(body).hook_event_name)
            return mapped(_hook(body)) if mapped else OtherEvent()
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"that is no hook event: {error}") from None

    def acknowledge(self) -> bytes:
        return NOTHING

    def allow(self) -> bytes:
        return NOTHING

    def refuse(self, reason: str, never: bool) -> bytes:
        specific = _Specific(
            hook_event_name="PreToolUse", permission_decision="deny", permission_decision_reason=advice(reason, never)
        )
        return msgspec.json.encode(_Decision(hook_specific_output=specific)) + b"\n"


def advice(reason: str, never: bool) -> str:
    """What the model reads in place of the tool's result."""
    if never:
        return f"oomless did not start this subagent: {reason}. It cannot run here: do the work without a subagent."
    return (
        f"oomless did not start this subagent: {reason}. Nothing was started, and the request is valid. Wait until a"
        " running subagent has finished, then call the tool again with the same input. Start fewer subagents at once,"
        " or one after another."
    )


def _pre_tool_use(hook: _Hook) -> HostEvent:
    if hook.tool_name not in TOOLS:
        return _other_event(hook)
    tool_input = _or_default(hook.tool_input, _Input)
    agent_type = tool_input.subagent_type or DEFAULT_AGENT_TYPE
    return SubagentRequested(
        session=_required(hook.session_id, "session_id"),
        request=_required(hook.tool_use_id, "tool_use_id"),
        agent_type=agent_type[:NAME_CHARS],
        cwd=hook.cwd,
        requester=hook.agent_id,
    )


def _post_tool_use(hook: _Hook) -> HostEvent:
    if hook.tool_name not in TOOLS:
        return _other_event(hook)
    response = _or_default(hook.tool_response, _Response)
    return SubagentLaunched(
        session=_required(hook.session_id, "session_id"),
        request=_required(hook.tool_use_id, "tool_use_id"),
        agent=response.agentId,
        over=response.status in ("completed", "remote_launched"),
    )


def _request_failed(hook: _Hook) -> HostEvent:
    if hook.tool_name not in TOOLS:
        return _other_event(hook)
    return RequestFailed(
        session=_required(hook.session_id, "session_id"), request=_required(hook.tool_use_id, "tool_use_id")
    )


def _subagent_start(hook: _Hook) -> HostEvent:
    return SubagentStarted(
        session=_required(hook.session_id, "session_id"),
        agent=_required(hook.agent_id or "", "agent_id"),
        agent_type=(hook.agent_type or DEFAULT_AGENT_TYPE)[:NAME_CHARS],
        cwd=hook.cwd,
    )


def _subagent_stop(hook: _Hook) -> HostEvent:
    return SubagentStopped(
        session=_required(hook.session_id, "session_id"), agent=_required(hook.agent_id or "", "agent_id")
    )


def _other_event(hook: _Hook) -> HostEvent:
    return OtherEvent(session=hook.session_id, agent=hook.agent_id)


_EVENTS = {
    "PreToolUse": _pre_tool_use,
    "PostToolUse": _post_tool_use,
    "PostToolUseFailure": _request_failed,
    "PermissionDenied": _request_failed,
    "SubagentStart": _subagent_start,
    "SubagentStop": _subagent_stop,
}


def _required(value: str, name: str) -> str:
    if not value:
        raise msgspec.ValidationError(f"it has no {name}")
    return value[:200]


def _or_default(raw: msgspec.Raw, kind: type[_T]) -> _T:
    """A tool's input and result may have any shape, also one that later versions give them."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError:
        return kind()
