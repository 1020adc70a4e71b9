"""The real programs: each server answers over stdio, and the real Claude Code CLI plays a scripted session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_log import peak_running
from oomless.demo.model import Call, Hold, LogEntry, ModelProcess, OnError, Rule, Script, Turn, read_log
from realparts import mcp_config, real_parts, real_server, run_claude
from realservers import Client

pytestmark = pytest.mark.parts

SERVERS = ("chrome-devtools", "flow-nexus", "claude-flow", "ruv-swarm", "everything")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers(name: str, house: Path) -> None:
    """In a folder with a short path: Chromium makes a socket below it."""
    server = real_server(name)
    client = Client(server, house)
    try:
        info = {"name": "test", "version": "1"}
        client.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        client.send("notifications/initialized", {})
        tools = [tool["name"] for tool in client.request("tools/list")["tools"]]
        assert server.tool in tools
        result = client.request("tools/call", name=server.tool, arguments=server.arguments)
        assert result["content"][0]["text"]
        assert not result.get("isError") or (name == "chrome-devtools" and not real_parts().browser)
    finally:
        client.close()


def agent(number: int, *, wait: bool) -> Call:
    prompt = f"SUB={number}: count to three"
    given = {"description": f"part {number}", "prompt": prompt, "subagent_type": "general-purpose"}
    return Call(name="Agent", input={**given, "run_in_background": not wait})


def play(script: Script, home: Path, *options: str) -> list[LogEntry]:
    with ModelProcess(script, str(home)) as model:
        done = run_claude(home, model.url, "AGENT=one: do your work", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All is done." in done.stdout
        return read_log(model.log)


def seen(entries: list[LogEntry]) -> list[tuple[str, bool, str]]:
    """The results that the main agent got, in order."""
    return [(r.tool, r.error, r.text) for e in entries if e.agent == "main" for r in e.results]


def echo(text: str) -> Turn:
    return Turn(calls=(Call(name="Bash", input={"command": f"echo {text}", "description": "say it"}),))


def test_a_session_of_the_real_cli(tmp_path: Path) -> None:
    """A shell, a tool of a real server, and two subagents whose answers are held until both run."""
    hold = Hold(group="subs", count=2, seconds=60)
    first = Turn(calls=echo("from a subagent").calls, hold=hold)
    script = Script(
        rules=(
            Rule(
                kind="main",
                marker="AGENT=one",
                turns=(
                    echo("hi"),
                    Turn(calls=(Call(name="mcp__everything__echo", input={"message": "hello"}),)),
                    Turn(calls=(agent(1, wait=True), agent(2, wait=True))),
                    Turn(text="All is done."),
                ),
            ),
            Rule(kind="subagent", marker="SUB=1", group="subs", turns=(first, Turn(text="One is done."))),
            Rule(kind="subagent", marker="SUB=2", group="subs", turns=(first, Turn(text="Two is done."))),
        )
    )
    entries = play(script, tmp_path, "--mcp-config", str(mcp_config(tmp_path, real_server("everything"))))
    results = seen(entries)
    assert results[:2] == [("Bash", False, "hi"), ("mcp__everything__echo", False, "Echo: hello")]
    assert [(tool, error) for tool, error, _ in results[2:]] == [("Agent", False)] * 2
    assert "One is done." in results[2][2]
    assert "Two is done." in results[3][2]
    assert peak_running(entries, "subs") == 2
    assert max(e.held for e in entries) < 30
    assert len({e.session for e in entries}) == 1
    shells = [r.text for e in entries if e.group == "subs" for r in e.results]
    assert shells == ["from a subagent"] * 2


def test_five_subagents_at_once(tmp_path: Path) -> None:
    """In the background, as Claude Code starts them of itself: the main agent is told of each end later."""
    hold = Hold(group="subs", count=5, seconds=60)
    calls = tuple(agent(number, wait=False) for number in range(5))
    main = Rule(kind="main", turns=(Turn(calls=calls), Turn(text="All is done.")))
    sub = Rule(kind="subagent", group="subs", turns=(Turn(text="Counted.", hold=hold),))
    entries = play(Script(rules=(main, sub)), tmp_path)
    assert peak_running(entries, "subs") == 5
    assert [(tool, error) for tool, error, _ in seen(entries)] == [("Agent", False)] * 5
    assert len({e.agent for e in entries if e.group == "subs" and e.last}) == 5
    assert max(e.held for e in entries) < 30


def test_a_denied_subagent_is_asked_for_again(tmp_path: Path) -> None:
    denial = {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": "no memory now",
    }
    hook = tmp_path / "hook.sh"
    answer = json.dumps({"hookSpecificOutput": denial})
    hook.write_text(f"#!/bin/sh\nmkdir {tmp_path}/denied 2>/dev/null && echo '{answer}'\nexit 0\n")
    hook.chmod(0o755)
    settings = tmp_path / "settings.json"
    handler = {"matcher": "Agent|Task", "hooks": [{"type": "command", "command": str(hook)}]}
    settings.write_text(json.dumps({"hooks": {"PreToolUse": [handler]}}))
    retry = OnError(text="hook error", retries=3, delay=0.1)
    turns = (Turn(calls=(agent(1, wait=True),), on_error=retry), Turn(text="All is done."))
    sub = Rule(kind="subagent", group="subs", turns=(Turn(text="Counted."),))
    entries = play(Script(rules=(Rule(kind="main", turns=turns), sub)), tmp_path, "--settings", str(settings))
    results = seen(entries)
    assert results[0] == ("Agent", True, "PreToolUse:Agent hook error: no memory now")
    assert [(tool, error) for tool, error, _ in results] == [("Agent", True), ("Agent", False)]
    assert [e.retry for e in entries if e.agent == "main" and e.event == "answered"] == [0, 1, 0]
