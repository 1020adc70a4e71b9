"""Facts about Claude Code (2.1.330, measured). Standard library only."""

from __future__ import annotations

import os

from oomless.hosts.base import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The shell that its tool shells are run by, if not $SHELL.
SHELL_VARIABLE = "CLAUDE_CODE_SHELL"
#: What is in the first words of a tool shell's line that is for zsh.
ZSH_SNAPSHOT = "snapshot-zsh-"
#: Where its settings are, if not in ~/.claude.
CONFIG_VARIABLE = "CLAUDE_CONFIG_DIR"


class ClaudeCodeFacts(HostFacts):
    """A session that runs in the tool shell of another leaves that one's CLAUDE_PID in its servers' environment: of a
    server it says nothing. Each tool shell leads a process session, and first reads a snapshot of the user's
    shell."""

    name = "claude-code"
    title = "Claude Code"
    session_mark = "CLAUDE_CODE_SESSION_ID"
    pid_mark = "CLAUDE_PID"
    project_mark = "CLAUDE_PROJECT_DIR"
    server_mark = "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS"
    tool_mark = "CLAUDE_CODE_CHILD_SESSION"
    tool_shell = "claude-code-shell"
    one_conversation = True
    http_hooks = True

    def resume_command(self, session: str) -> str:
        return f"claude --resume {session}"

    def mcp_config(self, home: str, environ: Mapping[str, str]) -> str | None:
        return os.path.join(environ.get(CONFIG_VARIABLE) or home, ".claude.json")


FACTS = ClaudeCodeFacts()
