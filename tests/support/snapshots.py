"""Made-up process tables for the census, and the verdicts on them."""

from __future__ import annotations

import msgspec

from oomless import catalog
from oomless.census import governed, verdicts
from oomless.census.attribution import Attributed, attribute
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.findings import Finding, Inventory, list_findings
from oomless.census.governed import GovernedTree
from oomless.census.snapshot import Marks, Snapshot
from oomless.model import Footprint, MachineMemory, ProcessInfo
from oomless.platform.base import Standing

KNOWN = catalog.load()


NPX = "/home/u/.npm/_npx/7cfa"


ROOMY = MachineMemory(total_bytes=16_000_000_000, available_bytes=12_000_000_000)


SHIM = ("/usr/bin/python3", "-I", "-S", "-E", "/opt/oomless/contain/boot.py", "5", "t1", "--", "job")


def row(
    pid: int,
    ppid: int,
    command: str | tuple[str, ...],
    start: int = 0,
    pgid: int = 0,
    sid: int = 1,
    rss: int = 50_000_000,
    uid: int = 1000,
) -> ProcessInfo:
    words = tuple(command.split()) if isinstance(command, str) else command
    return ProcessInfo(
        pid=pid,
        ppid=ppid,
        pgid=pgid or pid,
        sid=sid,
        tty=0,
        start=start or pid,
        uid=uid,
        state="S",
        name=words[0][:15],
        command=words,
        rss_bytes=rss,
    )


def snapshot(*rows: ProcessInfo, **marks: Marks) -> Snapshot:
    """``marks`` by ``p<pid>``; those of a host are Claude Code's unless they say another."""
    return Snapshot(processes=rows, marks=tuple(of_claude(marks.get(f"p{r.pid}", Marks())) for r in rows))


def of_claude(marks: Marks) -> Marks:
    is_of_host = marks.session or marks.host_pid or marks.project
    return msgspec.structs.replace(marks, host="claude-code") if is_of_host and not marks.host else marks


def by_pid(seen: Snapshot, *trees: GovernedTree, told: DaemonFacts | None = None) -> dict[int, Attributed]:
    return {one.process.pid: one for one in attribute(seen, trees, KNOWN, told)}


def tree(*pids: int, tree: str = "t1", name: str = "job", shim: int | None = None) -> GovernedTree:
    return GovernedTree(tree=tree, name=name, root_pid=pids[0], shim_pid=shim, pids=frozenset(pids))


SECRET = "hunter2hunter2"


SERVER_MARKS = Marks(host="claude-code", session="s-1", project=True)


TOOL_MARKS = Marks(host="claude-code", session="s-1", project=True, host_pid=100)


FLOW = f"node {NPX}/node_modules/flow-nexus/cli.js"


NPM = ("npm exec @modelcontextprotocol/server-memory",)


INIT = row(1, 0, "init")


GONE, HELD, UNKNOWN = Standing(stdin="gone"), Standing(stdin="held"), Standing()


def decide(
    seen: Snapshot, told: DaemonFacts | None = None, /, default: Standing = GONE, **standings: Standing
) -> dict[int, Attributed]:
    """By pid; ``standings`` by ``p<pid>``, ``default`` for the others that are asked for."""
    trees = governed.find_members(seen, told.trees, "a1b2c3d4") if told else ()
    found = attribute(seen, trees, KNOWN, told)
    asked = {one.pid for one in verdicts.select_doubtful(found, seen)}
    facts = {pid: standings.get(f"p{pid}", default) for pid in asked}
    return {one.process.pid: one for one in verdicts.decide(found, seen, facts)}


def words(found: dict[int, Attributed]) -> dict[int, str]:
    return {pid: one.verdict for pid, one in found.items()}


MEMORY = f"node {NPX}/node_modules/.bin/mcp-server-memory"


MB = 1_000_000


def inventory(
    seen: Snapshot,
    *trees: GovernedTree,
    told: DaemonFacts | None = None,
    subagents: dict[str, int] | None = None,
    default: Standing | None = None,
    **standings: Standing,
) -> Inventory:
    """40 MB a process, of which 30 are its own."""
    found = attribute(seen, trees, KNOWN, told)
    facts = {}
    for one in verdicts.select_doubtful(found, seen):
        facts[one.pid] = standings.get(f"p{one.pid}", default or Standing(stdin="gone"))
    settled = verdicts.decide(found, seen, facts)
    footprint = Footprint(bytes=40 * MB, source="pss", private_bytes=30 * MB)
    footprints = {one.process.pid: footprint for one in settled}
    return Inventory(memory=ROOMY, processes=settled, footprints=footprints, subagents=subagents or {})


def rules(seen: Inventory) -> dict[str, Finding]:
    found = list_findings(seen)
    assert len({one.rule for one in found}) == len(found)
    for one in found:
        assert one.evidence, one.rule
        assert all((one.action, one.title, *one.evidence)), one.rule
    return {one.rule: one for one in found}
