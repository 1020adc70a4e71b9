"""The scripted model of the demo: who is answered what, the stream's events, holds, and the process around it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers import wait_gone
from model_log import peak_running
from oomless.demo.model import (
    AGENT_HEADER,
    LAST_WORDS,
    SESSION_HEADER,
    Call,
    Conversation,
    Hold,
    LogEntry,
    ModelProcess,
    ModelServer,
    OnError,
    Rule,
    Script,
    Turn,
    WaitFile,
    choose_turn,
    read_conversation,
    read_log,
)
from oomless.platform import proc

ERROR = "PreToolUse:Agent hook error: oomless: no memory now"


def user(text: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": "<system-reminder/>"}, {"type": "text", "text": text}],
    }


def said(*calls: str, text: str = "") -> dict[str, Any]:
    """Calls by name; ``A_2`` is another call of ``A``."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for call in calls:
        blocks.append({"type": "tool_use", "id": f"id-{call}", "name": call.partition("_")[0], "input": {"n": 1}})
    return {"role": "assistant", "content": blocks}


def results(**texts: str) -> dict[str, Any]:
    """By call; a text with ``error`` in it is an error."""
    return {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": f"id-{call}", "content": text, "is_error": "error" in text}
            for call, text in texts.items()
        ],
    }


def body(*messages: dict[str, Any], tools: bool = True, stream: bool = False) -> bytes:
    tool = [{"name": "Bash", "input_schema": {}}] if tools else []
    return json.dumps(
        {"model": "m-1", "messages": messages, "tools": tool, "stream": stream, "max_tokens": 9}
    ).encode()


def ids(agent: str = "", session: str = "s1") -> dict[str, str]:
    return {SESSION_HEADER: session, **({AGENT_HEADER: agent} if agent else {})}


def read(*messages: dict[str, Any], agent: str = "", session: str = "s1", tools: bool = True) -> Conversation:
    return read_conversation(session, agent, body(*messages, tools=tools))


def answer(script: Script, *messages: dict[str, Any], agent: str = "", session: str = "s1") -> Turn:
    return choose_turn(script, read(*messages, agent=agent, session=session)).turn


def script(*turns: Turn, **fields: Any) -> Script:
    return Script(rules=(Rule(turns=turns, **fields),))


# Who asks


def test_a_request_is_read() -> None:
    found = read(user("AGENT=x"), {"role": "system", "content": "set"}, said("Bash"), results(Bash="hi"), agent="a1")
    assert (found.session, found.agent) == ("s1", "a1")
    assert found.prompt.endswith("AGENT=x")
    assert [(r.tool, r.text, r.error) for r in found.answers[-1]] == [("Bash", "hi", False)]
    assert not found.side


def test_a_result_may_be_blocks() -> None:
    blocks = [{"type": "text", "text": "Echo: hi"}, {"type": "image", "source": {}}]
    result = {"type": "tool_result", "tool_use_id": "id-echo", "content": blocks, "is_error": None}
    found = read(user("x"), said("echo"), {"role": "user", "content": [result]})
    assert found.answers[-1][0].text == "Echo: hi"


def test_markers_are_words_in_the_first_prompt() -> None:
    both = Script(
        rules=(
            Rule(marker="AGENT=news", turns=(Turn(text="1"),)),
            Rule(marker="AGENT=newsroom", turns=(Turn(text="2"),)),
        )
    )
    assert answer(both, user("do it, AGENT=news, now")).text == "1"
    assert answer(both, user("AGENT=newsroom")).text == "2"
    assert answer(both, user("hello"), said(text="AGENT=news"), user("AGENT=news")).text == LAST_WORDS


def test_main_and_subagents_are_told_apart() -> None:
    parts = Script(
        rules=(
            Rule(kind="subagent", turns=(Turn(text="sub"),)),
            Rule(kind="main", turns=(Turn(text="main"),)),
        )
    )
    assert answer(parts, user("x"), agent="a1").text == "sub"
    assert answer(parts, user("x")).text == "main"


def test_a_request_without_tools_is_a_side_errand() -> None:
    choice = choose_turn(script(Turn(calls=(Call(name="Bash"),))), read(user("title?"), tools=False))
    assert not choice.turn.calls
    assert choice.turn.text
    assert choose_turn(script(Turn(text="sub")), read(user("x"), tools=False, agent="a")).turn.text == "sub"


# What follows


def test_turns_follow_each_other() -> None:
    three = script(Turn(calls=(Call(name="Bash"),)), Turn(text="two"))
    assert answer(three, user("x")).calls[0].name == "Bash"
    assert answer(three, user("x"), said("Bash"), results(Bash="ok")).text == "two"
    assert answer(three, user("x"), said("Bash"), results(Bash="ok"), said(text="two"), user("y")).text == LAST_WORDS


def test_failed_calls_are_made_again_without_their_siblings() -> None:
    retry = OnError(text="hook error", retries=2, delay=0.5)
    hold = Hold(group="g", count=2, seconds=1)
    plan = script(
        Turn(calls=(Call(name="A"), Call(name="B"), Call(name="C")), on_error=retry, hold=hold), Turn(text="next")
    )
    first = [user("x"), said("A", "B", "C"), results(A=ERROR, B="fine", C="another error")]
    again = answer(plan, *first)
    assert again.calls == (Call(name="A", input={"n": 1}),)
    assert (again.delay, again.hold) == (0.5, None)
    assert answer(plan, *first, said("A_2"), results(A_2="fine")).text == "next"
    second = [*first, said("A_2"), results(A_2=ERROR)]
    assert answer(plan, *second).calls[0].name == "A"
    assert answer(plan, *second, said("A_3"), results(A_3=ERROR)).text == "next"


# Over HTTP


async def post(port: int, path: str, raw: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    if b"chunked" in head:
        parts = content.split(b"\r\n")
        content = b"".join(parts[1::2])
    return int(head.split()[1]), content


async def ask(port: int, *messages: dict[str, Any], agent: str = "", session: str = "s1") -> Any:
    status, raw = await post(port, "/v1/messages?beta=true", body(*messages), ids(agent, session))
    assert status == 200
    return json.loads(raw)


def logged(serving: ModelServer) -> list[LogEntry]:
    return read_log(serving.log) if Path(serving.log).exists() else []


def with_model(plan: Script, talk: Callable[[ModelServer], Awaitable[None]]) -> list[LogEntry]:
    async def main() -> list[LogEntry]:
        with tempfile.TemporaryDirectory() as folder, ModelServer(plan, f"{folder}/log") as serving:
            thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
            thread.start()
            try:
                await asyncio.wait_for(talk(serving), 30)
            finally:
                serving.shutdown()
                thread.join()
            return logged(serving)

    return asyncio.run(main())


def test_a_script_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.rules\[0\]\.turns\[0\]"):
        msgspec.json.decode(b'{"rules": [{"turns": [{"sing": 1}]}]}', type=Script)


def test_an_answer_at_once_and_as_a_stream() -> None:
    plan = script(Turn(text="Look.", calls=(Call(name="Bash", input={"command": "echo ü"}), Call(name="B"))))

    async def talk(serving: ModelServer) -> None:
        whole = await ask(serving.port, user("x"))
        assert whole["stop_reason"] == "tool_use"
        assert [block["type"] for block in whole["content"]] == ["text", "tool_use", "tool_use"]
        assert whole["content"][1]["input"] == {"command": "echo ü"}
        assert len({block.get("id") for block in whole["content"]}) == 3
        _, raw = await post(serving.port, "/v1/messages", body(user("x"), stream=True), ids())
        check_stream(raw.decode())

    with_model(plan, talk)


def check_stream(raw: str) -> None:
    found = [dict(line.split(": ", 1) for line in event.splitlines()) for event in raw.strip().split("\n\n")]
    kinds = [event["event"] for event in found]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", *block * 3, "message_delta", "message_stop"]
    data = [json.loads(event["data"]) for event in found]
    assert [d["type"] for d in data] == kinds
    assert data[0]["message"]["content"] == []
    assert data[0]["message"]["stop_reason"] is None
    assert data[2]["delta"] == {"type": "text_delta", "text": "Look."}
    assert data[4]["content_block"]["input"] == {}
    assert json.loads(data[5]["delta"]["partial_json"]) == {"command": "echo ü"}
    assert data[-2]["delta"]["stop_reason"] == "tool_use"
    assert data[-2]["usage"]["output_tokens"] > 0


def test_other_paths() -> None:
    async def talk(serving: ModelServer) -> None:
        status, raw = await post(serving.port, "/v1/messages/count_tokens", body(user("x")), ids())
        assert status == 200
        assert json.loads(raw)["input_tokens"] > 1
        status, raw = await post(serving.port, "/v1/messages", b'{"messages": 3}', ids())
        assert (status, json.loads(raw)["error"]["type"]) == (400, "invalid_request_error")
        status, raw = await post(serving.port, "/v1/elsewhere", b"", {})
        assert (status, json.loads(raw)["type"]) == (404, "error")

    with_model(script(Turn()), talk)


def subagents(plan: Turn) -> Script:
    return script(plan, kind="subagent", group="subs")


def test_a_hold_waits_for_others_and_then_stays_open() -> None:
    plan = subagents(Turn(text="ok", hold=Hold(group="subs", count=2, seconds=20)))

    async def talk(serving: ModelServer) -> None:
        first = asyncio.create_task(ask(serving.port, user("x"), agent="a"))
        while not logged(serving):
            await asyncio.sleep(0)
        assert not first.done()
        await asyncio.gather(first, ask(serving.port, user("x"), agent="b"))
        await ask(serving.port, user("x"), agent="c")

    entries = with_model(plan, talk)
    assert [e.event for e in entries[:2]] == ["asked", "asked"]
    assert peak_running(entries, "subs") == 2
    assert all(e.held < 10 for e in entries)


def test_a_hold_has_an_end() -> None:
    plan = subagents(Turn(text="ok", hold=Hold(group="subs", count=2, seconds=0.3)))

    async def talk(serving: ModelServer) -> None:
        assert (await ask(serving.port, user("x"), agent="a"))["content"][0]["text"] == "ok"

    assert with_model(plan, talk)[-1].held >= 0.3


def test_a_conversation_with_calls_to_come_runs_on() -> None:
    plan = subagents(Turn(calls=(Call(name="Bash"),)))

    async def talk(serving: ModelServer) -> None:
        for name in "ab":
            await ask(serving.port, user("x"), agent=name)
        await ask(serving.port, user("x"), said("Bash"), results(Bash="ok"), agent="a")
        await ask(serving.port, user("x"), agent="c")

    assert peak_running(with_model(plan, talk), "subs") == 2


def test_an_answer_waits_for_a_file(tmp_path: Path) -> None:
    flag = tmp_path / "go"
    plan = script(Turn(text="ok", wait_file=WaitFile(path=str(flag), seconds=20)))

    async def talk(serving: ModelServer) -> None:
        first = asyncio.create_task(ask(serving.port, user("x")))
        while not logged(serving):
            await asyncio.sleep(0)
        assert [e.event for e in logged(serving)] == ["asked"]
        flag.touch()
        await first

    assert [e.event for e in with_model(plan, talk)] == ["asked", "answered"]


def test_who_goes_away_while_held_is_counted_no_more() -> None:
    plan = subagents(Turn(text="ok", hold=Hold(group="subs", count=9, seconds=20)))

    async def talk(serving: ModelServer) -> None:
        task = asyncio.create_task(ask(serving.port, user("x"), agent="a"))
        while not logged(serving):
            await asyncio.sleep(0)
        task.cancel()
        while len(logged(serving)) < 2:
            await asyncio.sleep(0.01)

    assert [e.event for e in with_model(plan, talk)] == ["asked", "dropped"]


# As a process


def test_the_process_answers_and_logs_what_the_model_saw(tmp_path: Path) -> None:
    plan = script(Turn(calls=(Call(name="Bash"),)), Turn(text="seen"))
    secret = {"x-api-key": "secret-key", "authorization": "Bearer secret-token"}
    with ModelProcess(plan, str(tmp_path)) as model:
        raw = body(user("x"), said("Bash"), results(Bash="out"))
        status, _ = asyncio.run(post(model.port, "/v1/messages", raw, {**ids("a7"), **secret}))
    assert status == 200
    asked, answered = read_log(model.log)
    assert (asked.session, asked.agent, asked.turn) == ("s1", "a7", 1)
    assert [(r.tool, r.text) for r in asked.results] == [("Bash", "out")]
    assert (answered.text, answered.last) == ("seen", True)
    assert "secret" not in Path(model.log).read_text()


def test_the_process_ends_with_its_owner(tmp_path: Path) -> None:
    """The owner is killed, so nothing of it tells the model to end."""
    (tmp_path / "owner.py").write_text(
        "import sys, os\n"
        "from oomless.demo.model import ModelProcess, Script\n"
        f"model = ModelProcess(Script(rules=()), {str(tmp_path)!r})\n"
        "print(model.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        start = proc.start_of(pid)
        assert start is not None
        owner.kill()
    assert wait_gone(pid, start, 5)


def test_a_pipe_will_do_for_the_ready_descriptor(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(msgspec.json.encode(Script(rules=())))
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "oomless.demo.model",
        str(tmp_path / "s.json"),
        str(tmp_path / "log"),
        str(writer),
    ]
    with subprocess.Popen(command, pass_fds=(writer,)) as process:
        os.close(writer)
        assert int(os.read(reader, 16)) > 0
        os.close(reader)
        assert process.wait(5) == 0
