"""What a host must provide: facts about it, and what can be done with it. Standard library only.

``HostFacts`` is what the shell prefix, the hook command and the census go by. ``Host`` is the rest, loaded where it
is used: its hooks, its configuration of MCP servers, installing into it and checking that.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from oomless.hosts.events import HookMapping
    from oomless.hosts.installation import Change, HookTarget, HostView
    from oomless.paths import Paths
    from oomless.userfile import UserFile

    class Host(Protocol):
        @property
        def facts(self) -> HostFacts: ...

        def hook_mapping(self) -> HookMapping: ...

        def open_settings(self, environ: Mapping[str, str]) -> UserFile:
            """Raises UsageError for settings that cannot be installed into."""
            ...

        def plan_install(self, paths: Paths, file: UserFile, target: HookTarget, *, hooks_only: bool) -> Change:
            """Raises UsageError where the hooks or the prefix could not do what they are for."""
            ...

        def plan_uninstall(self, paths: Paths, environ: Mapping[str, str]) -> Change: ...

        def apply(self, paths: Paths, change: Change) -> str | None:
            """Writes the change; returns the backup's path."""
            ...

        def check(self, paths: Paths, environ: Mapping[str, str], cwd: str, target: HookTarget) -> HostView: ...


class SessionMarks:
    """What a host's marks in an environment say. Marks are inherited by everything below, also by what has left its
    session: they prove nothing alone. ``host_pid`` is 0 unless a tool shell or a hook names its session's process."""

    __slots__ = ("has_project", "host", "host_pid", "session")

    def __init__(self, host: str, session: str, host_pid: int, has_project: bool) -> None:
        self.host, self.session, self.host_pid, self.has_project = host, session, host_pid, has_project


class HostFacts:
    """One host. ``name`` is its name in the catalog, too, and ``title`` how people call it.

    The marks are names of environment variables, "" where the host sets none: ``session_mark`` has the session's id,
    ``pid_mark`` the pid of the session's process, ``project_mark`` the project's folder. Only servers have
    ``server_mark``; only tool shells and hooks have ``tool_mark``.

    ``http_hooks``: its hooks go to the daemon over HTTP, other than those of ``hook_events``.
    ``tool_shell`` is the catalog's name for its tool shells, or "". ``one_conversation``: one process has one
    conversation, and so one instance of each server. ``hook_events`` are the events of ``oomless hook HOST EVENT``.
    """

    name: str
    title: str
    session_mark = pid_mark = project_mark = server_mark = tool_mark = ""
    tool_shell = ""
    one_conversation = False
    http_hooks = False
    hook_events: tuple[str, ...] = ("session-start",)

    def mark_names(self) -> tuple[str, ...]:
        marks = (self.session_mark, self.pid_mark, self.project_mark, self.server_mark, self.tool_mark)
        return tuple(name for name in marks if name)

    def read_marks(self, environ: Mapping[str, str]) -> SessionMarks | None:
        """Returns None if the environment has no mark of this host."""
        if not any(name in environ for name in self.mark_names()):
            return None
        pid = environ.get(self.pid_mark, "")
        return SessionMarks(
            self.name,
            environ.get(self.session_mark, ""),
            int(pid) if pid.isascii() and pid.isdigit() and not self.is_server(environ) else 0,
            self.project_mark in environ,
        )

    def is_server(self, environ: Mapping[str, str]) -> bool:
        """Whether the host started a process with this environment as an MCP server."""
        return bool(self.server_mark) and self.server_mark in environ and self.tool_mark not in environ

    def read_start(self, event: Mapping[str, Any]) -> tuple[str, str, str]:
        """Returns session id, working directory and how the session began, of the JSON that its start hook gets.
        Raises KeyError."""
        return str(event["session_id"]), str(event.get("cwd", "")), str(event.get("source", ""))

    def resume_command(self, session: str) -> str:
        """Returns what continues a session in a new process, or ""."""
        return ""

    def mcp_config(self, home: str, environ: Mapping[str, str]) -> str | None:
        """Returns the file that names its MCP servers, None if that is one of the common ones."""
        return None
