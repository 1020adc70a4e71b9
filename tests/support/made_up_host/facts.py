"""Facts about the made-up host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from oomless.hosts.base import HostFacts

HOME_VARIABLE = "MADEUP_HOME"


class MadeUpFacts(HostFacts):
    name = "made-up"
    title = "Made Up"
    session_mark = "MADEUP_RUN"
    pid_mark = "MADEUP_PID"
    project_mark = "MADEUP_ROOT"
    hook_events = ("session-start", "tell")

    def read_start(self, event: Mapping[str, Any]) -> tuple[str, str, str]:
        return str(event["run"]), str(event.get("folder", "")), ""

    def resume_command(self, session: str) -> str:
        return f"madeup continue {session}"

    def mcp_config(self, home: str, environ: Mapping[str, str]) -> str | None:
        return os.path.join(environ.get(HOME_VARIABLE) or home, "servers.json")


FACTS = MadeUpFacts()
