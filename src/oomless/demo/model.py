"""A scripted model on loopback that speaks the Messages API as Claude Code 2.1.330 uses it, for demo and tests.

``python -m oomless.demo.model SCRIPT LOG READY_FD`` writes its port and a newline to the ready descriptor (a pipe or
a socket) once it listens, and ends when the other end is closed, so that it never outlives its owner
(``ModelProcess``). A script is a list of rules; the first that fits a conversation answers with its next turn.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from oomless.errors import OomlessError

MAIN = "main"
SESSION_HEADER, AGENT_HEADER = "x-claude-code-session-id", "x-claude-code-agent-id"
#: Said after the last turn of a rule, and where no rule fits.
LAST_WORDS = "Done."
START_SECONDS, END_SECONDS = 30.0, 5.0
#: Seconds between two checks of what an answer waits for, and of whether its client is still connected.
POLL = 0.02


# The script


class Call(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool call. Several in a turn are made at once."""

    name: str
    input: dict[str, Any] = {}


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer waits until ``count`` conversations of ``group`` run at the same time, at most ``seconds``. Once
    reached it stays open, or the last of an odd number would wait in vain."""

    group: str
    count: int
    seconds: float


class WaitFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer waits until ``path`` exists, at most ``seconds``."""

    path: str
    seconds: float


class OnError(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls of the turn that failed with ``text`` in their result are made again after ``delay`` seconds, up to
    ``retries`` times; their siblings are not. After that the script goes on."""

    text: str = ""
    retries: int
    delay: float = 0.0


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer: text, calls or both, after ``hold``, ``wait_file`` and ``delay`` in that order."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    hold: Hold | None = None
    wait_file: WaitFile | None = None
    delay: float = 0.0
    on_error: OnError | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fits a conversation of that ``kind`` whose first prompt has the word ``marker`` in it (empty: any).
    ``group`` is what holds count."""

    kind: Literal["any", "main", "subagent"] = "any"
    marker: str = ""
    group: str = ""
    turns: tuple[Turn, ...]


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


# A request: the whole conversation so far


class _Block(msgspec.Struct, frozen=True, kw_only=True):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None


class _ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[_Block]

    def blocks(self) -> list[_Block]:
        return [_Block(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    model: str = ""
    messages: list[_ChatMessage] = []
    tools: list[msgspec.Raw] = []
    stream: bool = False


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that was made, and what came of it."""

    tool: str
    input: Any = None
    error: bool
    text: str


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """``prompt``: what the user said before the first answer. ``answers``: the calls of each earlier answer.
    ``side``: a request without tools, which is a side errand (a title, a summary, a quota check)."""

    session: str
    agent: str = MAIN
    model: str = ""
    side: bool = False
    stream: bool = False
    prompt: str = ""
    answers: tuple[tuple[ToolResult, ...], ...] = ()


def read_conversation(session: str, agent: str, raw: bytes) -> Conversation:
    """``agent`` is empty for a session's main agent. Raises msgspec.DecodeError for what is no request."""
    body = msgspec.json.decode(raw, type=_Body)
    results = {b.tool_use_id: b for m in body.messages for b in m.blocks() if b.type == "tool_result"}
    answers = [m for m in body.messages if m.role == "assistant"]
    # Some messages between have the role ``system``; a prompt comes with reminders as blocks of their own.
    first = body.messages[: body.messages.index(answers[0])] if answers else body.messages
    return Conversation(
        session=session,
        agent=agent or MAIN,
        model=body.model,
        side=not body.tools and not agent,
        stream=body.stream,
        prompt="\n".join(block.text for m in first if m.role == "user" for block in m.blocks()),
        answers=tuple(tuple(_read_result(b, results[b.id]) for b in m.blocks() if b.id in results) for m in answers),
    )


def _read_result(call: _Block, result: _Block) -> ToolResult:
    parts = result.content if isinstance(result.content, list) else [{"text": result.content or ""}]
    text = "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
    return ToolResult(tool=call.name, input=call.input, error=bool(result.is_error), text=text)


# The turn that follows


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """``rule`` is the place in the script of the rule that fits (-1: none), ``group`` its group."""

    turn: Turn
    group: str = ""
    rule: int = -1
    retry: int = 0


def choose_turn(script: Script, conversation: Conversation) -> Choice:
    """From the conversation alone: a request that is sent again after a broken connection gets the same answer."""
    if conversation.side:
        return Choice(turn=Turn(text="A short task"))
    kind = MAIN if conversation.agent == MAIN else "subagent"
    for place, rule in enumerate(script.rules):
        # ``AGENT=news`` is not in ``AGENT=newsroom``.
        word = rf"(?<!\w){re.escape(rule.marker)}(?!\w)" if rule.marker else ""
        if rule.kind in ("any", kind) and re.search(word, conversation.prompt):
            turn, retry = _next_turn(rule, conversation)
            return Choice(turn=turn, group=rule.group, rule=place, retry=retry)
    return Choice(turn=Turn(text=LAST_WORDS))


def _next_turn(rule: Rule, conversation: Conversation) -> tuple[Turn, int]:
    """The turn and which retry it is: the earlier answers say where in the rule the conversation is."""
    turns = (*rule.turns, *(Turn(text=LAST_WORDS) for _ in range(len(conversation.answers) + 1)))
    place = retries = 0
    again: tuple[Call, ...] = ()
    for results in conversation.answers:
        wanted = turns[place].on_error
        again = () if wanted is None or retries == wanted.retries else _failed_calls(results, wanted.text)
        place, retries = (place, retries + 1) if again else (place + 1, 0)
    turn = turns[place]
    if again and turn.on_error:
        return msgspec.structs.replace(turn, text="", calls=again, hold=None, delay=turn.on_error.delay), retries
    return turn, 0


def _failed_calls(results: tuple[ToolResult, ...], text: str) -> tuple[Call, ...]:
    return tuple(Call(name=r.tool, input=r.input or {}) for r in results if r.error and text in r.text)


# The answer in the API's words


def _reply(turn: Turn, model: str, asked_bytes: int) -> dict[str, Any]:
    """An answer without text and calls would be an error to Claude Code, so an empty turn says something."""
    blocks: list[dict[str, Any]] = []
    if turn.text or not turn.calls:
        blocks.append({"type": "text", "text": turn.text or "."})
    for call in turn.calls:
        name, given = call.name, call.input
        blocks.append({"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": name, "input": given})
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": "tool_use" if turn.calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(asked_bytes), "output_tokens": _tokens(len(msgspec.json.encode(blocks)))},
    }


def _tokens(size: int) -> int:
    """Four bytes a token; nothing depends on it."""
    return size // 4 + 1


def _events(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The server-sent events of a streamed answer, in the order in which Claude Code takes them."""
    yield {"type": "message_start", "message": {**reply, "content": [], "stop_reason": None}}
    for index, block in enumerate(reply["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            given = msgspec.json.encode(block["input"]).decode()
            empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": given}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": reply["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": reply["usage"]}
    yield {"type": "message_stop"}


def _encode_events(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events)


# The log: one JSON line when a request comes and one when it is answered


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``event``: asked, then answered, or dropped if the client went away first. ``turn``: the number of earlier
    answers. ``last``: an answer without calls, which ends the conversation. ``held``: seconds until the answer."""

    event: Literal["asked", "answered", "dropped"]
    session: str
    agent: str
    group: str = ""
    rule: int = -1
    turn: int
    retry: int = 0
    side: bool = False
    results: tuple[ToolResult, ...] = ()
    text: str = ""
    last: bool = False
    held: float = 0.0


def read_log(path: str | Path) -> list[LogEntry]:
    """All whole lines; the last may still be in the making."""
    whole = Path(path).read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line, type=LogEntry) for line in whole.splitlines()]


# The server


class ModelServer(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1 and logs to the file ``log``. A conversation runs from its first request
    until it is answered without calls or dropped."""

    daemon_threads = allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, script: Script, log: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.port: int = self.server_address[1]
        self.log = log
        self._lock = threading.Lock()
        self._running: dict[str, set[tuple[str, str]]] = {}
        self._open: set[Hold] = set()

    def record(self, entry: LogEntry) -> None:
        running = (entry.session, entry.agent)
        with self._lock:
            group = self._running.setdefault(entry.group, set())
            if entry.event == "asked":
                group.add(running)
            elif entry.last or entry.event == "dropped":
                group.discard(running)
            with open(self.log, "ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")

    def reached(self, hold: Hold) -> bool:
        with self._lock:
            if len(self._running.get(hold.group, ())) >= hold.count:
                self._open.add(hold)
            return hold in self._open


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """The log says what matters, and no header: one of them is the API key."""

    def do_GET(self) -> None:
        if self.path == "/":
            self._send(200, b"", "text/plain")
        else:
            self._fail(404, "not_found_error", f"no {self.command} {self.path} here")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path == "/v1/messages":
            self._answer(body)
        elif path == "/v1/messages/count_tokens":
            self._send(200, msgspec.json.encode({"input_tokens": _tokens(len(body))}))
        else:
            self._fail(404, "not_found_error", f"no POST {path} here")

    def _answer(self, body: bytes) -> None:
        session, agent = self.headers.get(SESSION_HEADER, ""), self.headers.get(AGENT_HEADER, "")
        try:
            conversation = read_conversation(session, agent, body)
        except msgspec.DecodeError as error:
            self._fail(400, "invalid_request_error", str(error))
            return
        turn = self._wait_and_log(conversation, choose_turn(self.server.script, conversation))
        if turn is None:
            self.close_connection = True
            return
        reply = _reply(turn, conversation.model, len(body))
        if conversation.stream:
            self._send(200, _encode_events(_events(reply)), "text/event-stream")
        else:
            self._send(200, msgspec.json.encode(reply))

    def _wait_and_log(self, conversation: Conversation, choice: Choice) -> Turn | None:
        """None if the client has disconnected, so that the answer has no reader."""
        turn, began = choice.turn, time.monotonic()
        asked = LogEntry(
            event="asked",
            session=conversation.session,
            agent=conversation.agent,
            group=choice.group,
            rule=choice.rule,
            turn=len(conversation.answers),
            retry=choice.retry,
            side=conversation.side,
            results=conversation.answers[-1] if conversation.answers else (),
        )
        self.server.record(asked)
        hold, file = turn.hold, turn.wait_file
        there = (
            (hold is None or self._wait(lambda: self.server.reached(hold), hold.seconds))
            and (file is None or self._wait(lambda: os.path.exists(file.path), file.seconds))
            and self._wait(lambda: False, turn.delay)
        )
        self.server.record(
            msgspec.structs.replace(
                asked,
                event="answered" if there else "dropped",
                results=(),
                text=turn.text,
                last=not turn.calls,
                held=time.monotonic() - began,
            )
        )
        return turn if there else None

    def _wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Returns when it is ready or the time is over; False if the client disconnected meanwhile."""
        until = time.monotonic() + seconds
        while not ready() and (left := until - time.monotonic()) > 0:
            try:
                if not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return False
            except BlockingIOError:
                pass
            except OSError:
                return False
            time.sleep(min(left, POLL))
        return True

    def _fail(self, status: int, kind: str, text: str) -> None:
        self._send(status, msgspec.json.encode({"type": "error", "error": {"type": kind, "message": text}}))

    def _send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


# As a process of its own


class ModelProcess:
    """Starts the model as a child with its script and log in ``folder``; ``with`` ends it. Its environment is bare:
    it needs nothing, and a mark that it inherits would count it among a session's processes."""

    def __init__(self, script: Script, folder: str) -> None:
        self.log, path = os.path.join(folder, "model.jsonl"), os.path.join(folder, "model-script.json")
        with open(path, "wb") as file:
            file.write(msgspec.json.encode(script))
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "oomless.demo.model", path, self.log, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"PATH": os.defpath},
            )
        self.pid = self._process.pid
        try:
            self._line.settimeout(START_SECONDS)
            self.port = int(self._line.recv(16))
        except (OSError, ValueError):
            self.close()
            raise OomlessError("the scripted model did not start", "", "its own line above says why") from None
        except BaseException:
            self.close()
            raise
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._line.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def main(path: str, log: str, ready: str) -> None:
    server = ModelServer(msgspec.json.decode(Path(path).read_bytes(), type=Script), log)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.write(int(ready), f"{server.port}\n".encode())
    poll = select.poll()
    poll.register(int(ready), 0)  # a closed other end is reported whatever is asked for
    poll.poll()


if __name__ == "__main__":
    main(*sys.argv[1:])
