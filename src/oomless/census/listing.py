"""Attribute the processes of a saved listing: as on the live machine, from what was printed.

A listing shows no environments, no descriptors and no start times that can be verified, so its verdicts are weaker:
what a chain of parents or the catalog says, and what started later where it prints when (``etime``, ``lstart``).
Where it prints no parents, a server belongs to the one host on its terminal. What it does not say stays unknown.

A listing proves nothing to be left over. A stdio server is started by its client, as a child; so if its parent is
init, the client is gone, or something in between has ended: likely, with confidence 0.6, unless a host on its
terminal, a port or a network transport in its arguments, or a process session of its own speaks against it.
Pure.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Collection, Container, Iterable, Mapping
from functools import partial

import msgspec

from oomless import hosts
from oomless.catalog import Catalog, Kind, ProgramMatch
from oomless.census.attribution import Attributed, attribute
from oomless.census.findings import Finding
from oomless.census.listing_findings import listing_findings
from oomless.census.ownerless import LIKELY, with_verdict
from oomless.census.snapshot import Marks, Snapshot
from oomless.census.verdicts import decide
from oomless.listing import Listed, Listing
from oomless.listing.merge import MergedRow, merge_listing
from oomless.listing.values import parse_moment, parse_rough_moments
from oomless.model import Footprint, ProcessInfo
from oomless.processes.command import SHELLS, base_name, is_relay, is_subreaper

#: Confidence by the only host on its terminal: a person may have started the server there beside the host.
TERMINAL = 0.6
#: For what a listing does not say; no process has such a number.
NOT_TOLD = -1
#: A name that the kernel cut is completed if only one known program begins so; shorter ones say too little.
_LONG_NAME = 15
_PER_SECOND = 100
#: Seconds: what ``ps`` prints in minutes.
_ROUGH = 60.0
_SESSION_NAME = re.compile(r"\b[0-9]+:[0-9]+\b")
_FIRST = 1
#: First processes that only manage.
_INITS = frozenset(
    {"init", "systemd", "launchd", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runit"}
)
#: How words in the arguments of a server begin that clients reach by the network, or that stays for all of them.
_NETWORK = ("http", "sse", "port", "listen", "host", "transport", "ws", "daemon", "serve")
#: Kinds of programs that serve one client at their standard input.
_SERVING = ("server", "launcher", "language-server")
#: No clients on a terminal: shells, programs that hold it for another, and those that made this listing there.
_NO_CLIENTS = SHELLS | {"login", "su", "sudo", "ps", "top", "grep", "egrep", "rg", "sort", "head", "less", "awk"}

_Rows = Mapping[int, MergedRow]


class ListingCensus(msgspec.Struct, frozen=True, kw_only=True):
    """What the census says of a listing.

    ``processes`` are those worth a row, by pid; ``rows`` all that were read, and ``known`` which of them the catalog
    knows; ``footprints`` those of ``processes`` whose memory is printed. ``timed``: whether the listing says which
    process was started first.
    """

    processes: tuple[Attributed, ...]
    rows: _Rows
    known: Mapping[int, ProgramMatch]
    footprints: Mapping[int, Footprint]
    findings: tuple[Finding, ...]
    timed: bool


def attribute_listing(listing: Listing, catalog: Catalog) -> ListingCensus:
    """Everything that ``scan``, ``reap`` and ``diagnose`` say of a listing's processes rests on this."""
    rows = merge_listing(listing)
    snapshot, timed = _as_snapshot(rows, catalog)
    programs = {pid: catalog.match(command) for pid, command in snapshot.commands.items()}
    recognised = {pid: program for pid, program in programs.items() if program is not None}
    placed = _by_terminal(_with_instances(attribute(snapshot, (), catalog), snapshot, rows), snapshot, rows)
    known = _with_shells_between(placed, snapshot, rows)
    if timed:
        known = _keep_if_cut(known, decide(known, snapshot, {}), rows)
    known = _with_likely_orphans(known, snapshot, rows)
    known = (*known, *_leftover_shells(known, snapshot, rows, recognised, timed))
    by_pid = {attributed.process.pid: attributed for attributed in known}
    for process in snapshot.processes:
        if process.pid not in by_pid and rows[process.pid].mentioned:
            by_pid[process.pid] = Attributed(process=process, kind="other", verdict="unknown", confidence=0.0)
    names = _plain_names(by_pid)
    processes = tuple(_in_plain_words(by_pid[pid], rows[pid], names) for pid in sorted(by_pid))
    sizes = {pid: rows[pid].listed.rss_bytes for pid in by_pid}
    footprints = {pid: Footprint(bytes=size, source="listing") for pid, size in sizes.items() if size is not None}
    findings = listing_findings(processes, snapshot.commands, rows, footprints, listing.memory)
    return ListingCensus(
        processes=processes, rows=rows, known=recognised, footprints=footprints, findings=findings, timed=timed
    )


# -- what a snapshot of the machine would have shown -----------------------------------------------------------------


def _as_snapshot(rows: _Rows, catalog: Catalog) -> tuple[Snapshot, bool]:
    """The process table as far as it is printed; and whether its start times count."""
    starts, rough = _start_times([row.listed for row in rows.values()])
    names = tuple({name for program in catalog.programs for name in program.executables})
    processes = tuple(_as_process(rows[pid], starts.get(pid, 0), names) for pid in sorted(rows))
    marks = tuple(Marks() for _ in processes)
    snapshot = Snapshot(processes=processes, marks=marks, starts_per_second=_PER_SECOND, starts_within=rough)
    return snapshot, bool(starts)


def _as_process(row: MergedRow, start: int, names: tuple[str, ...]) -> ProcessInfo:
    listed, argv = row.listed, _whole_argv(row, names)
    return ProcessInfo(
        pid=listed.pid,
        ppid=NOT_TOLD if listed.ppid is None else listed.ppid,
        pgid=NOT_TOLD if listed.pgid is None else listed.pgid,
        sid=NOT_TOLD if listed.sid is None else listed.sid,
        tty=0,
        start=start,
        uid=int(listed.user) if _is_number(listed.user) else NOT_TOLD,
        state=listed.state,
        name=argv[0] if argv else "",
        command=argv,
        rss_bytes=listed.rss_bytes or 0,
        terminal=listed.tty,
    )


def _whole_argv(row: MergedRow, names: tuple[str, ...]) -> tuple[str, ...]:
    """The row's words; of a bare name the name, completed if it was cut. A name with blanks is no line of words,
    which an empty argument behind it says."""
    command, listed = row.listed.command, row.listed
    if not row.is_command or not listed.name_only or command.startswith("/"):
        return row.argv
    if listed.cut and len(command) >= _LONG_NAME:
        whole = [name for name in names if name.startswith(command)]
        command = whole[0] if len(whole) == 1 else command
    return (command, "") if " " in command else (command,)


def _start_times(rows: list[Listed]) -> tuple[dict[int, int], float]:
    """Start times in hundredths of a second on some clock, if the listing says that of all; else none. And by how
    many seconds the difference of two may be too large."""
    ages = {row.pid: row.elapsed_seconds for row in rows}
    moments = {row.pid: parse_moment(row.started) for row in rows}
    elapsed = {pid: -age for pid, age in ages.items() if age is not None}
    started = {pid: at for pid, at in moments.items() if at is not None}
    seconds = next((times for times in (elapsed, started) if len(times) == len(rows)), {})
    by_pid = sorted(rows, key=lambda row: row.pid)
    if not seconds and (minutes := parse_rough_moments([row.started for row in by_pid])):
        seconds = {row.pid: at * _ROUGH for row, at in zip(by_pid, minutes, strict=True)}
        return {pid: round(at * _PER_SECOND) for pid, at in seconds.items()}, _ROUGH
    first = min(seconds.values(), default=0.0)
    return {pid: round((at - first) * _PER_SECOND) for pid, at in seconds.items()}, 0.0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


# -- servers whose parents are not printed ---------------------------------------------------------------------------


def _with_instances(attributed: Iterable[Attributed], snapshot: Snapshot, rows: _Rows) -> tuple[Attributed, ...]:
    """Servers of several processes whose parents are not printed: on one terminal, in the order of their numbers,
    they are of one instance until a program comes again."""
    attributed = tuple(attributed)
    last: dict[tuple[str, str], tuple[int, set[tuple[str, ...]]]] = {}
    roots: dict[int, int] = {}
    for server in attributed:
        row, pid = rows[server.process.pid].listed, server.process.pid
        if server.server is None or row.ppid is not None or not row.tty:
            continue
        command = snapshot.final_command(pid)
        program = (command.path, command.script, command.module)
        root, programs = last.get((server.server, row.tty), (pid, set()))
        if program in programs:
            root, programs = pid, set()
        last[server.server, row.tty] = root, programs | {program}
        roots[pid] = root
    return tuple(_with_instance(server, roots.get(server.process.pid)) for server in attributed)


def _with_instance(server: Attributed, root: int | None) -> Attributed:
    if root is None or root == server.process.pid:
        return server
    reason = f"on the terminal of {root}, and another program of the same server: taken for one instance"
    return msgspec.structs.replace(server, instance=root, evidence=(*server.evidence, reason))


def _by_terminal(attributed: tuple[Attributed, ...], snapshot: Snapshot, rows: _Rows) -> tuple[Attributed, ...]:
    """Servers without a printed parent go to the one host on their terminal."""
    hosts: dict[str, list[Attributed]] = {}
    for process in attributed:
        if process.kind == "session":
            hosts.setdefault(rows[process.process.pid].listed.tty, []).append(process)
    return tuple(
        _place_by_terminal(process, rows[process.process.pid].listed, hosts, snapshot) for process in attributed
    )


def _place_by_terminal(
    server: Attributed, row: Listed, hosts: Mapping[str, list[Attributed]], snapshot: Snapshot
) -> Attributed:
    if server.server is None or server.host is not None or row.ppid is not None or not row.tty:
        return server
    on_terminal = hosts.get(row.tty, [])
    if len(on_terminal) > 1 and _is_one_session(on_terminal, snapshot):
        on_terminal = on_terminal[:1]
    if len(on_terminal) != 1:
        count = "no host" if not on_terminal else f"{len(on_terminal)} hosts"
        reason = f"terminal {row.tty}: the listing has {count} on it"
        return msgspec.structs.replace(server, evidence=(*server.evidence, reason))
    host = on_terminal[0]
    reason = f"terminal {row.tty}: that of {host.host} {host.process.pid}, and of no other host in the listing"
    return msgspec.structs.replace(
        server,
        verdict="owned",
        confidence=TERMINAL,
        host=host.host,
        session=host.session,
        session_root=host.process.pid,
        evidence=(reason, *server.evidence),
    )


def _is_one_session(hosts: Collection[Attributed], snapshot: Snapshot) -> bool:
    """One session of several processes, as Codex' script with the program that it starts: not the same one twice."""
    programs = [snapshot.commands[host.process.pid].program for host in hosts]
    return len({host.host for host in hosts}) == 1 and len(set(programs)) == len(programs)


def _keep_if_cut(
    before: tuple[Attributed, ...], after: tuple[Attributed, ...], rows: _Rows
) -> tuple[Attributed, ...]:
    """Where a command is cut, nothing says that another is the same: such copies keep their first verdict."""
    cut = {copy.instance for copy in before if copy.instance is not None and rows[copy.process.pid].listed.cut}
    return tuple(old if old.instance in cut else new for old, new in zip(before, after, strict=True))


# -- servers that are likely left over -------------------------------------------------------------------------------


def _with_likely_orphans(
    attributed: tuple[Attributed, ...], snapshot: Snapshot, rows: _Rows
) -> tuple[Attributed, ...]:
    """Servers and language servers whose parent only takes in what has lost its own, and, where no parents are
    printed, those on a terminal where no process can be their client. A client is older, no shell, no server and
    does not look at this listing. A server in the foreground of its terminal is one that a person tries there."""
    terminals = {rows[member.process.pid].listed.tty for member in attributed if member.kind == "session"} - {""}
    language = {member.process.pid for member in attributed if member.kind == "language-server"}
    instances: dict[int, list[Attributed]] = {}
    for process in attributed:
        root = process.instance or _topmost_of(process.process.pid, language, snapshot)
        if root is not None:
            instances.setdefault(root, []).append(process)
    clients = _oldest_clients(snapshot, {member.process.pid for members in instances.values() for member in members})
    changed: dict[int, Attributed] = {}
    for root, members in instances.items():
        row = rows[root].listed
        seated = row.tty in terminals
        unattended = bool(row.tty) and not seated and not root > clients.get(row.tty, root)
        reason = "" if seated or not _may_be_left(members) else _lost_parent(row, rows, unattended)
        reason = reason or (_lost_client(row, members, rows) if unattended and _may_be_left(members) else "")
        if reason:
            changed |= {member.process.pid: with_verdict(member, "orphan", LIKELY, reason) for member in members}
    return tuple(changed.get(member.process.pid, member) for member in attributed)


def _topmost_of(pid: int, language: Container[int], snapshot: Snapshot) -> int | None:
    """The topmost of language servers that start each other."""
    return snapshot.ancestry.topmost(pid, language) if pid in language else None


def _oldest_clients(snapshot: Snapshot, servers: Container[int]) -> dict[str, int]:
    """By terminal, the lowest pid of a process that may be a client of a younger one. Pids grow, and go round."""
    lowest: dict[str, int] = {}
    for process in reversed(snapshot.processes):
        if process.pid not in servers and snapshot.commands[process.pid].program not in _NO_CLIENTS:
            lowest[process.terminal] = process.pid
    return lowest


def _lost_parent(row: Listed, rows: _Rows, unattended: bool) -> str:
    """A relay of WSL's also starts what Windows asks for; that has no terminal, or is what is shown there."""
    if row.ppid is None or _leads_session(row) or not _takes_in(row.ppid, rows):
        return ""
    if row.ppid in rows and is_relay(rows[row.ppid].argv) and not (unattended and _FIRST in rows):
        return ""
    return (
        f"its parent is {row.ppid}, which only takes in what has lost its own; a server on standard input is a child"
        " of its client, so that one seems to be gone (a listing cannot prove it)"
    )


def _lost_client(row: Listed, members: Iterable[Attributed], rows: _Rows) -> str:
    """Only where the first process is printed: else rows were left out, and the client may be among them."""
    if row.ppid is not None or _FIRST not in rows:
        return ""
    states = [rows[member.process.pid].listed.state for member in members]
    if any(not state or "+" in state for state in states):
        return ""
    return (
        f"nobody on its terminal {row.tty} can be its client, whoever else is there is a shell, a server or younger,"
        " and it is in the background there (a listing cannot prove it)"
    )


def _may_be_left(members: Iterable[Attributed]) -> bool:
    return all(member.verdict == "unknown" and not _serves_network(member) for member in members)


def _serves_network(server: Attributed) -> bool:
    words = server.process.command[1:]
    return server.kind in _SERVING and any(word.strip("-").startswith(_NETWORK) for word in words)


def _leads_session(row: Listed) -> bool:
    """Whether it leads a process session: ``ps`` has an ``s`` for that in its states, after the first letter."""
    return row.sid == row.pid or "s" in row.state[1:]


def _takes_in(pid: int, rows: _Rows) -> bool:
    """The first process, if it is no host in a container, and a user's own systemd."""
    row = rows.get(pid)
    if row is None:
        return pid == _FIRST
    return is_subreaper(row.argv) or (pid == _FIRST and base_name("".join(row.argv[:1])).rstrip(":") in _INITS)


# -- shells that no printed parent places ----------------------------------------------------------------------------


def _with_shells_between(
    attributed: tuple[Attributed, ...], snapshot: Snapshot, rows: _Rows
) -> tuple[Attributed, ...]:
    """With the shells between a launcher and its server, where no parents are printed: ``npm exec PACKAGE`` has a
    shell run the package's command. Each goes to the next server on its terminal that has the name it runs."""
    known = {server.process.pid for server in attributed}
    servers: dict[tuple[str, str], list[Attributed]] = {}
    for server in attributed:
        if server.instance is not None and rows[server.process.pid].listed.ppid is None:
            servers.setdefault((rows[server.process.pid].listed.tty, _program_name(server, snapshot)), []).append(
                server
            )
    added = []
    for process in snapshot.processes:
        row, name = rows[process.pid].listed, _shell_runs(process.command)
        if process.pid in known or row.ppid is not None or not row.tty or not name:
            continue
        alike = servers.get((row.tty, name), [])
        at = bisect(alike, process.pid, key=lambda server: server.process.pid)
        if at < len(alike):
            added.append(_as_launcher(process, alike[at]))
    return tuple(sorted((*attributed, *added), key=lambda server: server.process.pid))


def _as_launcher(shell: ProcessInfo, server: Attributed) -> Attributed:
    pid = server.process.pid
    reason = f"a shell on the terminal of {pid} that runs it: taken for its launcher's"
    evidence = (*server.evidence, reason)
    return msgspec.structs.replace(server, process=shell, kind="launcher", program=None, evidence=evidence)


def _shell_runs(command: tuple[str, ...]) -> str:
    """``NAME`` of ``sh -c NAME ...``, if that is all that the shell runs."""
    if len(command) < 3 or base_name(command[0]) not in SHELLS or command[1] != "-c":
        return ""
    first = command[2].split()
    return base_name(first[0].strip("\"'")) if first else ""


def _program_name(server: Attributed, snapshot: Snapshot) -> str:
    command = snapshot.final_command(server.process.pid)
    return base_name(command.script or command.path)


def _leftover_shells(
    attributed: Iterable[Attributed],
    snapshot: Snapshot,
    rows: _Rows,
    programs: Mapping[int, ProgramMatch],
    timed: bool,
) -> tuple[Attributed, ...]:
    """Tool shells that are likely left over, and what is below them where that is printed; none of ``attributed``.
    Only a session starts a tool shell, and so is older: one that lost its parent, or is older than all sessions of a
    whole listing, is left over."""
    known, ancestry = {process.process.pid for process in attributed}, snapshot.ancestry
    sessions = [process.process.start for process in attributed if process.kind == "session"]
    oldest = min(sessions, default=None) if timed and _FIRST in rows else None
    shell_hosts = hosts.tool_shell_hosts()
    added: dict[int, Attributed] = {}
    for process in snapshot.processes:
        program = programs.get(process.pid)
        if program is None or program.program.name not in shell_hosts or process.pid in known:
            continue
        name = program.program.name
        likely_orphan = partial(_likely_orphan, shell_hosts[name], name)
        reason = _shell_left(process, rows, oldest, snapshot.starts_per_second * snapshot.starts_within)
        if reason:
            by = f"catalog: {name}, {program.by}"
            added[process.pid] = likely_orphan(process, "tool-shell", f"{reason} (a listing cannot prove it)", by)
            for pid in ancestry.descendants(process.pid):
                child, sid = ancestry.by_pid[pid], rows[pid].listed.sid
                if pid not in known and sid in (None, process.pid, process.sid):
                    evidence = f"run by the tool shell {process.pid}, and {reason}"
                    added.setdefault(pid, likely_orphan(child, "other", evidence))
    return tuple(added.values())


def _likely_orphan(host: str, program: str, process: ProcessInfo, kind: Kind, *evidence: str) -> Attributed:
    return Attributed(
        process=process,
        kind=kind,
        verdict="orphan",
        confidence=LIKELY,
        host=host,
        program=program if kind == "tool-shell" else None,
        evidence=evidence,
    )


def _shell_left(process: ProcessInfo, rows: _Rows, oldest: int | None, within: float) -> str:
    ppid = rows[process.pid].listed.ppid
    if ppid is not None:
        reason = (
            f"its parent is {ppid}, which only takes in what has lost its own; only a session starts such a shell"
        )
        return reason if _takes_in(ppid, rows) else ""
    if oldest is None or process.start + within >= oldest:
        return ""
    return "it is older than every session in the listing, and only a session starts such a shell"


# -- evidence in the words of a listing ------------------------------------------------------------------------------


def _plain_names(by_pid: Mapping[int, Attributed]) -> dict[str, str]:
    """Sessions are named by pid and start, and no start is the machine's: by pid alone."""
    roots = {process.session_root for process in by_pid.values() if process.session_root is not None}
    return {f"{pid}:{by_pid[pid].process.start}": str(pid) for pid in roots if pid in by_pid}


def _in_plain_words(attributed: Attributed, row: MergedRow, names: Mapping[str, str]) -> Attributed:
    """With the lines that it stands on, and without start times."""
    evidence = (*attributed.evidence, *_completed_name(attributed, row.listed), *row.evidence)
    session = names.get(attributed.session, attributed.session) if attributed.session else attributed.session
    plain = tuple(_plain_text(line, names) for line in evidence)
    return msgspec.structs.replace(attributed, session=session, evidence=plain)


def _completed_name(attributed: Attributed, row: Listed) -> tuple[str, ...]:
    name = attributed.process.name
    if not (row.cut and row.name_only) or name == row.command or not name:
        return ()
    return (f"the system cut its name to {row.command!r}: of the known ones only one begins so",)


def _plain_text(text: str, names: Mapping[str, str]) -> str:
    text = _SESSION_NAME.sub(lambda match: names.get(match[0], match[0]), text)
    return text.replace("live parent chain", "chain of parents in the listing")
