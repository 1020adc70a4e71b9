"""The lines of evidence behind an attribution, one for each rung of the ladder that said something. Pure."""

from __future__ import annotations

import msgspec

from oomless import hosts
from oomless.catalog import ProgramMatch
from oomless.census.governed import GovernedTree
from oomless.census.owners import Owner
from oomless.census.servers import Instance
from oomless.census.snapshot import Marks
from oomless.hosts.base import HostFacts
from oomless.hosts.mcp_entries import Entry
from oomless.model import EscapedProcess
from oomless.redact import command_line


class ProcessFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one process. ``ours``: a shim or prefix of oomless; ``shim``: that of ``tree``."""

    pid: int
    marks: Marks
    match: ProgramMatch | None
    tree: GovernedTree | None
    owner: Owner | None
    instance: Instance | None
    entry: Entry | None
    ours: bool
    shim: bool
    escaped: EscapedProcess | None = None


def list_evidence(facts: ProcessFacts) -> tuple[str, ...]:
    """Strongest first."""
    lines = (
        _of_ours(facts),
        _by_journal(facts),
        _by_cgroup(facts.escaped),
        _by_chain(facts.owner, facts.pid),
        _by_record(facts.owner),
        _by_mark(facts),
        _by_settings(facts),
        _by_catalog(facts),
        _by_instance(facts),
    )
    return tuple(dict.fromkeys(line for line in lines if line))


def _of_ours(facts: ProcessFacts) -> str:
    return "oomless' own shim, by its argument list" if facts.ours else ""


def _by_journal(facts: ProcessFacts) -> str:
    tree, owner = facts.tree, facts.owner
    if tree is None:
        if owner is None or owner.by != "journal":
            return ""
        return f"journal: outlived the session {owner.session}; {owner.detach_reason}"
    part = "shim" if facts.shim else "root" if facts.pid == tree.root_pid else "member"
    what = {"tree": "governed tree", "tool-shell": "tool shell", "server": "server"}[tree.role]
    of = f" of the session {tree.session}" if tree.session else ""
    return f"journal: {part} of the {what} {command_line((tree.name,))} ({tree.tree}){of}"


def _by_cgroup(escaped: EscapedProcess | None) -> str:
    return f"its shim: escaped the tree's cgroup to {escaped.to}; {escaped.why}" if escaped else ""


def _by_chain(owner: Owner | None, pid: int) -> str:
    if owner is None or owner.by != "chain" or owner.root == pid:
        return ""
    return f"live parent chain: {' < '.join(map(str, owner.chain))} ({owner.host})"


def _by_record(owner: Owner | None) -> str:
    if owner is None or owner.by != "record":
        return ""
    chain = f"recorded ancestry: {' < '.join(map(str, owner.chain))}, the process of the session {owner.session}"
    return f"{chain}, which has ended" + (f"; {owner.detach_reason}" if owner.detach_reason else "")


def _by_mark(facts: ProcessFacts) -> str:
    owner, mark = facts.owner, facts.marks.session
    if owner is not None and owner.by == "mark":
        return _by_mark_alone(owner, facts)
    if not mark:
        return ""
    agrees = owner is not None and owner.session == mark
    names = hosts.facts_of(facts.marks.host) or HostFacts()
    return f"environment mark: {names.session_mark}={mark}" + ("" if agrees else ", which alone proves no owner")


def _by_mark_alone(owner: Owner, facts: ProcessFacts) -> str:
    names = hosts.facts_of(owner.host) or HostFacts()
    where = "" if owner.marked == facts.pid else f" of {owner.marked} above it"
    if owner.root is None:
        gone = f"{names.session_mark}={owner.session}, a session that does not run here"
        return f"environment mark{where}: {gone}; it alone proves no owner"
    named = facts.marks.host_pid == owner.root
    session = facts.marks.session or owner.session
    mark = f"{names.pid_mark}={owner.root}" if named else f"{names.session_mark}={session}"
    alive = f"whose process {owner.root} is alive and older; the parents in between are gone"
    return f"environment mark{where}: {mark}, {alive}"


def _by_settings(facts: ProcessFacts) -> str:
    entry = facts.entry
    if entry is None or facts.instance is None or entry.loosely:
        return ""
    return f"settings: {entry.source} starts the server {entry.name} with this command"


def _by_catalog(facts: ProcessFacts) -> str:
    if facts.match is None:
        return ""
    program = facts.match.program
    return f"catalog: {program.title} ({program.name}), by {facts.match.by}"


def _by_instance(facts: ProcessFacts) -> str:
    instance = facts.instance
    if instance is None:
        return ""
    if instance.serving == facts.pid:
        return "" if facts.match is not None else instance.by
    return f"part of the server {instance.name}, instance {instance.root}"
