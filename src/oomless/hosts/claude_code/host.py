"""Claude Code as a host; its modules are loaded by what uses them."""

from __future__ import annotations

from oomless.hosts.claude_code.facts import FACTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oomless.hosts.base import Host
    from oomless.hosts.events import HookMapping
    from oomless.hosts.installation import Change, HookTarget, HostView
    from oomless.paths import Paths
    from oomless.userfile import UserFile


class ClaudeCode:
    facts = FACTS

    def hook_mapping(self) -> HookMapping:
        from oomless.hosts.claude_code.hooks import ClaudeHooks

        return ClaudeHooks()

    def open_settings(self, environ: Mapping[str, str]) -> UserFile:
        from oomless.hosts.claude_code import install

        return install.open_settings(environ)

    def plan_install(self, paths: Paths, file: UserFile, target: HookTarget, *, hooks_only: bool) -> Change:
        from oomless.hosts.claude_code import install

        return install.plan_install(paths, file, target, hooks_only=hooks_only)

    def plan_uninstall(self, paths: Paths, environ: Mapping[str, str]) -> Change:
        from oomless.hosts.claude_code import install

        return install.plan_uninstall(paths, environ)

    def apply(self, paths: Paths, change: Change) -> str | None:
        from oomless.hosts.claude_code import install

        return install.apply(paths, change)

    def check(self, paths: Paths, environ: Mapping[str, str], cwd: str, target: HookTarget) -> HostView:
        from oomless.hosts.claude_code.check import check

        return check(paths, environ, cwd, target)


HOST: Host = ClaudeCode()
