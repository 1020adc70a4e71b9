"""Where a host's settings name its servers, as Claude Code 2.1.330 reads them: a file that its command line gives,
``~/.claude.json`` (the user's), or ``.mcp.json`` in a project's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .stage import ROLE, Stage
from .stage_parts import CLAUDE_CODE, Server

#: A session's own role stands before its servers': the host fills in variables of its environment.
OF_SESSION = f"${{{ROLE}}}"


def given(stage: Stage, file: Path, servers: Sequence[Server], session: str) -> None:
    """For ``--mcp-config``."""
    file.write_text(json.dumps({"mcpServers": _entries(servers, session)}))


def at_home(stage: Stage, *servers: Server) -> None:
    """All sessions of this user have them. To be called before the first one starts: it writes this file too."""
    file = stage.home / ".claude.json"
    asked = {
        "hasCompletedOnboarding": True, "lastOnboardingVersion": CLAUDE_CODE.split()[-1], "theme": "dark",
        "bypassPermissionsModeAccepted": True, "customApiKeyResponses": {"approved": ["dummy"], "rejected": []},
    }  # fmt: skip
    file.write_text(json.dumps({**asked, "mcpServers": _entries(servers, OF_SESSION), "projects": {}}))
    (stage.home / ".claude").mkdir(exist_ok=True)
    settings = {"skipDangerousModePermissionPrompt": True, "enableAllProjectMcpServers": True}
    (stage.home / ".claude/settings.json").write_text(json.dumps(settings))


def project(stage: Stage, name: str, *servers: Server) -> Path:
    """A folder that the user trusts, with servers of its own; after ``at_home``."""
    folder = stage.home / name
    folder.mkdir()
    if servers:
        file = folder / ".mcp.json"
        file.write_text(json.dumps({"mcpServers": _entries(servers, OF_SESSION)}, indent=2))
    home = stage.home / ".claude.json"
    known = json.loads(home.read_text())
    known["projects"][str(folder)] = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    home.write_text(json.dumps(known))
    return folder


def _entries(servers: Sequence[Server], session: str) -> dict[str, dict[str, Any]]:
    return {
        one.name: {
            "type": "stdio", "command": one.command[0], "args": list(one.command[1:]),
            "env": {**one.env, ROLE: f"{session}:{one.name}"},
        }
        for one in servers
    }  # fmt: skip
