"""A host's side of the hooks, for tests: events of Claude Code 2.1.330 over HTTP, and sessions registered by hand."""

from __future__ import annotations

import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any

from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn
from oomless.protocol.client import Client
from oomless.protocol.views import StatusView, TreeView

PATIENCE = 20.0


def settings(text: str) -> None:
    """To be written before the daemon starts, or after: it reads a changed file again."""
    paths = Paths()
    os.makedirs(paths.config, exist_ok=True)
    Path(paths.config_file).write_text(text)


def event(name: str, session: str, **fields: Any) -> dict[str, Any]:
    common = {"session_id": session, "transcript_path": "/nowhere.jsonl", "cwd": "/", "permission_mode": "default"}
    return {**common, "hook_event_name": name, **fields}


def wanted(session: str, use: str, kind: str | None = None, **fields: Any) -> dict[str, Any]:
    """PreToolUse for the tool Agent."""
    asked = {"description": "d", "prompt": "p", **({"subagent_type": kind} if kind else {})}
    return event("PreToolUse", session, tool_name="Agent", tool_use_id=use, tool_input=asked, **fields)


def launched(session: str, use: str, agent: str, status: str = "async_launched") -> dict[str, Any]:
    """PostToolUse: at once in the background, at its end in the foreground (``completed``)."""
    response = {"status": status, "agentId": agent, "description": "d", "prompt": "p"}
    return event("PostToolUse", session, tool_name="Agent", tool_use_id=use, tool_input={}, tool_response=response)


def began(session: str, agent: str, kind: str = "general-purpose") -> dict[str, Any]:
    return event("SubagentStart", session, agent_id=agent, agent_type=kind)


def finished(session: str, agent: str, kind: str = "general-purpose") -> dict[str, Any]:
    return event("SubagentStop", session, agent_id=agent, agent_type=kind, stop_hook_active=False)


class Answer:
    """What a hook was answered; ``decision`` and ``reason`` are what the host would take from it."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, json.loads(body)
        specific = self.body.get("hookSpecificOutput", {})
        self.decision = specific.get("permissionDecision")
        self.reason = specific.get("permissionDecisionReason", "")


class Asked(threading.Thread):
    """A hook that is on its way, as a host holds it open."""

    def __init__(self, host: Host, body: bytes) -> None:
        super().__init__(daemon=True)
        self._connection = host.connect()
        self._host, self._body = host, body
        self._answer: Answer | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer = self._host.exchange(self._connection, self._body)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # hung up

    def answer(self, timeout: float = PATIENCE) -> Answer:
        self.join(timeout)
        self._connection.close()
        assert self._answer is not None, "no answer came"
        return self._answer

    @property
    def waits(self) -> bool:
        return self._answer is None

    def hang_up(self) -> None:
        connection = self._connection.sock
        assert connection is not None
        connection.shutdown(2)
        self.join(PATIENCE)
        self._connection.close()


class Host:
    """Talks to the daemon of this test, which it starts."""

    def __init__(self) -> None:
        self.paths = Paths()
        self.socket = spawn.ensure(self.paths)
        view = Client(self.paths, start=False).daemon()
        assert view.url is not None
        self.port = int(view.url.rsplit(":", 1)[1])
        self.token = Path(self.paths.token("hooks")).read_text().strip()

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.connect()
        return connection

    def exchange(
        self, connection: http.client.HTTPConnection, body: bytes, path: str = "/hooks/claude-code", token: str = ""
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read())

    def raw(self, body: bytes, path: str = "/hooks/claude-code", token: str = "") -> Answer:
        connection = self.connect()
        try:
            return self.exchange(connection, body, path, token)
        finally:
            connection.close()

    def tell(self, what: dict[str, Any]) -> Answer:
        """Sends it and returns the answer at once."""
        return self.raw(json.dumps(what).encode())

    def ask(self, what: dict[str, Any]) -> Asked:
        return Asked(self, json.dumps(what).encode())

    def status(self) -> StatusView:
        return Client(self.paths, start=False).status()

    def subagents(self, state: str | None = None) -> list[TreeView]:
        return [t for t in self.status().trees if t.kind == "subagent" and state in (None, t.state)]

    def register(self, session: str, pid: int, cwd: str = "/", start: int | None = None) -> int:
        """As the session-start hook does; the HTTP status."""
        fields = {"host": "claude-code", "session": session, "pid": pid, "cwd": cwd, "source": "startup"}
        body = json.dumps({**fields, "start": proc.start_of(pid) if start is None else start})
        return control(self.socket, "POST", "/v1/sessions", body)[0]


def control(path: str, method: str, target: str, body: str = "") -> tuple[int, dict[str, Any]]:
    import socket

    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
