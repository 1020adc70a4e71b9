"""Which servers of a saved listing, language servers too, look left over: those whose parent is one that only takes
in what has lost its own, and, where no parents are printed, those on a terminal where nobody can be their client.
Pure.

No proof, and never a ground to end anything: a listing shows nobody's standard input. A stdio server is started by
its client, as a child; so if its parent is init, the client is gone, or something in between has ended. What speaks
for the latter, or for a server that was never a child, leaves it unknown: a host on its terminal, a port or a network
transport in its arguments, a process session of its own. On a terminal a client is whoever is older, no shell, no
server and does not look at this listing; a server in the foreground is one that somebody tries there by hand.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from oomless.census.attribution import Attributed
from oomless.census.ownerless import LIKELY, judged
from oomless.listing import Listed
from oomless.listing.merge import Merged
from oomless.processes.command import SHELLS, adopts, base, is_relay, parse

_FIRST = 1
#: First processes that only manage.
_INITS = frozenset(
    {"init", "systemd", "launchd", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runit"}
)
#: How words in the arguments of a server begin that clients reach by the network, or that stays for all of them.
_NETWORK = ("http", "sse", "port", "listen", "host", "transport", "ws", "daemon", "serve")
#: Kinds of programs that serve one client at their standard input.
_SERVING = ("server", "launcher", "language-server")
#: Who is no client on a terminal: shells, who holds it for one, and who made this listing there.
_NO_CLIENTS = SHELLS | {"login", "su", "sudo", "ps", "top", "grep", "egrep", "rg", "sort", "head", "less", "awk"}


def likely(found: tuple[Attributed, ...], rows: Mapping[int, Merged]) -> tuple[Attributed, ...]:
    terminals = {rows[one.process.pid].listed.tty for one in found if one.kind == "session"} - {""}
    language = {one.process.pid for one in found if one.kind == "language-server"}
    instances: dict[int, list[Attributed]] = {}
    for one in found:
        root = one.instance or _topmost(one.process.pid, language, rows)
        if root is not None:
            instances.setdefault(root, []).append(one)
    clients = _clients(rows, {one.process.pid for members in instances.values() for one in members})
    changed: dict[int, Attributed] = {}
    for root, members in instances.items():
        row = rows[root].listed
        seated = row.tty in terminals
        deserted = bool(row.tty) and not seated and not root > clients.get(row.tty, root)
        why = "" if seated or not _may_be(members) else _lost(row, rows, deserted)
        why = why or (_left_behind(row, members, rows) if deserted and _may_be(members) else "")
        if why:
            changed |= {one.process.pid: judged(one, "orphan", LIKELY, why) for one in members}
    return tuple(changed.get(one.process.pid, one) for one in found)


def _topmost(pid: int, among: Container[int], rows: Mapping[int, Merged]) -> int | None:
    """Of language servers that start each other."""
    if pid not in among:
        return None
    seen = {pid}
    while (above := rows[pid].listed.ppid) is not None and above in among and above not in seen:
        seen.add(above)
        pid = above
    return pid


def _clients(rows: Mapping[int, Merged], servers: Container[int]) -> dict[str, int]:
    """By terminal, the lowest number of whoever may be a client of what is younger. Numbers grow, and go round."""
    found: dict[str, int] = {}
    for pid in sorted(rows, reverse=True):
        row = rows[pid].listed
        if pid not in servers and parse(tuple(row.command.split())).program not in _NO_CLIENTS:
            found[row.tty] = pid
    return found


def _lost(row: Listed, rows: Mapping[int, Merged], deserted: bool) -> str:
    """A relay of WSL's also starts what Windows asks for; that has no terminal, or is what is shown there."""
    if row.ppid is None or _leads(row) or not takes_in(row.ppid, rows):
        return ""
    if row.ppid in rows and is_relay(_words(rows[row.ppid])) and not (deserted and _FIRST in rows):
        return ""
    return (
        f"its parent is {row.ppid}, which only takes in what has lost its own; a server on standard input is a child"
        " of its client, so that one seems to be gone (a listing cannot prove it)"
    )


def _left_behind(row: Listed, members: Iterable[Attributed], rows: Mapping[int, Merged]) -> str:
    """Only where the first process is printed: else rows were left out, and the client may be among them."""
    if row.ppid is not None or _FIRST not in rows:
        return ""
    states = [rows[one.process.pid].listed.state for one in members]
    if any(not state or "+" in state for state in states):
        return ""
    return (
        f"nobody on its terminal {row.tty} can be its client, whoever else is there is a shell, a server or younger,"
        " and it is in the background there (a listing cannot prove it)"
    )


def _may_be(members: Iterable[Attributed]) -> bool:
    return all(one.verdict == "unknown" and not _by_network(one) for one in members)


def _leads(row: Listed) -> bool:
    """Whether it leads a process session: ``ps`` has an ``s`` for that in its states, after the first letter."""
    return row.sid == row.pid or "s" in row.state[1:]


def takes_in(pid: int, rows: Mapping[int, Merged]) -> bool:
    """The first process, if it is no host in a container, and a user's own systemd."""
    row = rows.get(pid)
    if row is None:
        return pid == _FIRST
    words = _words(row)
    return adopts(words) or (pid == _FIRST and base("".join(words[:1])).rstrip(":") in _INITS)


def _words(row: Merged) -> tuple[str, ...]:
    return tuple(row.listed.command.split())


def _by_network(one: Attributed) -> bool:
    return one.kind in _SERVING and any(word.strip("-").startswith(_NETWORK) for word in one.process.command[1:])
