"""The lines of evidence behind an attribution, one for each rung of the ladder that said something. Pure."""

from __future__ import annotations

import msgspec

from oomless import hosts
from oomless.catalog import Known
from oomless.census.governed import GovernedTree
from oomless.census.owners import Owner
from oomless.census.servers import Instance
from oomless.census.snapshot import Marks
from oomless.hosts.base import HostFacts
from oomless.hosts.mcp_entries import Entry
from oomless.model import EscapedProcess
from oomless.redact import command_line


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one process. ``ours``: a shim or prefix of oomless; ``shim``: that of ``tree``."""

    pid: int
    marks: Marks
    known: Known | None
    tree: GovernedTree | None
    owner: Owner | None
    instance: Instance | None
    entry: Entry | None
    ours: bool
    shim: bool
    escaped: EscapedProcess | None = None


def evidence(facts: Facts) -> tuple[str, ...]:
    """Strongest first."""
    lines = (
        _of_ours(facts),
        _by_journal(facts),
        _by_groups(facts.escaped),
        _by_chain(facts.owner, facts.pid),
        _by_lineage(facts.owner),
        _by_mark(facts),
        _by_settings(facts),
        _by_catalog(facts),
        _by_instance(facts),
    )
    return tuple(line for line in lines if line)


def _of_ours(facts: Facts) -> str:
    return "oomless' own shim, by its argument list" if facts.ours else ""


def _by_journal(facts: Facts) -> str:
    tree, owner = facts.tree, facts.owner
    if tree is None:
        left = owner is not None and owner.by == "journal"
        return f"journal: outlived the session {owner.session}; {owner.why}" if owner and left else ""
    part = "shim" if facts.shim else "root" if facts.pid == tree.root_pid else "member"
    what = {"tree": "governed tree", "tool-shell": "tool shell", "server": "server"}[tree.role]
    of = f" of the session {tree.session}" if tree.session else ""
    return f"journal: {part} of the {what} {command_line((tree.name,))} ({tree.tree}){of}"


def _by_groups(escaped: EscapedProcess | None) -> str:
    return f"its shim: moved out of the tree's groups to {escaped.to}; {escaped.why}" if escaped else ""


def _by_chain(owner: Owner | None, pid: int) -> str:
    if owner is None or owner.by != "chain" or owner.root == pid:
        return ""
    return f"live parent chain: {' < '.join(map(str, owner.chain))} ({owner.host})"


def _by_lineage(owner: Owner | None) -> str:
    if owner is None or owner.by != "lineage":
        return ""
    gone = f"remembered lineage: {' < '.join(map(str, owner.chain))}, the process of the session {owner.session}"
    return f"{gone}, which has died" + (f"; {owner.why}" if owner.why else "")


def _by_mark(facts: Facts) -> str:
    owner, mark = facts.owner, facts.marks.session
    if owner is not None and owner.by == "mark":
        return _marked(owner, facts)
    if not mark:
        return ""
    agrees = owner is not None and owner.session == mark
    names = hosts.facts_of(facts.marks.host) or HostFacts()
    return f"environment mark: {names.session_mark}={mark}" + ("" if agrees else ", which alone proves no owner")


def _marked(owner: Owner, facts: Facts) -> str:
    """What a mark is worth where it is all there is."""
    names = hosts.facts_of(owner.host) or HostFacts()
    where = "" if owner.marked == facts.pid else f" of {owner.marked} above it"
    if owner.root is None:
        gone = f"{names.session_mark}={owner.session}, a session that does not run here"
        return f"environment mark{where}: {gone}; which alone proves no owner"
    named = facts.marks.host_pid == owner.root
    session = facts.marks.session or owner.session
    mark = f"{names.pid_mark}={owner.root}" if named else f"{names.session_mark}={session}"
    alive = f"whose process {owner.root} lives and is older; the parents between are gone"
    return f"environment mark{where}: {mark}, {alive}"


def _by_settings(facts: Facts) -> str:
    entry = facts.entry
    if entry is None or facts.instance is None or entry.loosely:
        return ""
    return f"settings: runs what {entry.source} has for the server {entry.name}"


def _by_catalog(facts: Facts) -> str:
    if facts.known is None:
        return ""
    program = facts.known.program
    return f"catalog: {program.title} ({program.name}), by {facts.known.by}"


def _by_instance(facts: Facts) -> str:
    instance = facts.instance
    if instance is None:
        return ""
    if instance.serving == facts.pid:
        return "" if facts.known is not None else instance.by
    return f"part of the server {instance.name}, instance {instance.root}"
