"""The applications that run agents, one folder each, and which of them are known.

A host's folder has ``facts.py`` (``FACTS``, standard library only) and ``host.py`` (``HOST``); both are loaded when
they are asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from oomless.hosts.base import Host, HostFacts, SessionMarks

#: The order decides where a process has the marks of several hosts: the first one counts.
PACKAGES: tuple[str, ...] = ("oomless.hosts.claude_code",)


def known() -> tuple[Host, ...]:
    return tuple(_load(package, "host").HOST for package in PACKAGES)


def find(name: str) -> Host | None:
    return next((host for host in known() if host.facts.name == name), None)


def known_facts() -> tuple[HostFacts, ...]:
    return tuple(_load(package, "facts").FACTS for package in PACKAGES)


def facts_of(name: str) -> HostFacts | None:
    return next((facts for facts in known_facts() if facts.name == name), None)


def mark_names() -> frozenset[str]:
    """Returns the environment variables that hosts mark processes with."""
    return frozenset(name for facts in known_facts() for name in facts.mark_names())


def read_marks(environ: Mapping[str, str]) -> SessionMarks | None:
    """Returns the marks of the first host that has some in this environment."""
    return next((marks for facts in known_facts() if (marks := facts.read_marks(environ)) is not None), None)


def tool_shell_hosts() -> dict[str, str]:
    """Returns the host of each tool shell that the catalog knows, by the catalog's name."""
    return {facts.tool_shell: facts.name for facts in known_facts() if facts.tool_shell}


def resume_command(host: str, session: str) -> str:
    """Returns what continues that session in a new process, or "" if the host is not known."""
    facts = facts_of(host)
    return facts.resume_command(session) if facts is not None else ""


def _load(package: str, module: str) -> Any:
    return __import__(f"{package}.{module}", fromlist=["*"])
