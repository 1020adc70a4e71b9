"""Which servers of a saved listing look left over: those whose printed parent is one that only takes in what has lost
its own. Pure.

No proof, and never a ground to end anything: a listing shows nobody's standard input. A stdio server is started by
its client, as a child; so if its parent is init, the client is gone, or something in between has ended. What speaks
for the latter, or for a server that was never a child, leaves it unknown: a host on its terminal, a port or a network
transport in its arguments, a process session of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oomless.census.attribute import Attributed
from oomless.census.command import base
from oomless.census.deserted import judged
from oomless.census.listed_rows import Merged

#: Far from proven (``cli/proposal.py``: 0.9).
LIKELY = 0.6
#: First processes that only manage, and who else takes in a user's orphans (systemd --user, PR_SET_CHILD_SUBREAPER).
_INITS = frozenset(
    {"init", "systemd", "launchd", "tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "runit"}
)
#: How words in the arguments of a server begin that clients reach by the network, or that stays for all of them.
_NETWORK = ("http", "sse", "port", "listen", "host", "transport", "ws", "daemon", "serve")
#: Kinds of programs that serve one client at their standard input.
_SERVING = ("server", "launcher")


def likely(found: tuple[Attributed, ...], rows: Mapping[int, Merged]) -> tuple[Attributed, ...]:
    terminals = {rows[one.process.pid].listed.tty for one in found if one.kind == "session"} - {""}
    instances: dict[int, list[Attributed]] = {}
    for one in found:
        if one.instance is not None:
            instances.setdefault(one.instance, []).append(one)
    changed: dict[int, Attributed] = {}
    for root, members in instances.items():
        why = _lost(root, members, rows, terminals)
        if why:
            changed |= {one.process.pid: judged(one, "orphan", LIKELY, why) for one in members}
    return tuple(changed.get(one.process.pid, one) for one in found)


def _lost(root: int, members: Iterable[Attributed], rows: Mapping[int, Merged], terminals: Iterable[str]) -> str:
    row = rows[root].listed
    if row.ppid is None or row.sid == root or row.tty in terminals or not _takes_in(row.ppid, rows):
        return ""
    if any(one.verdict != "unknown" or _by_network(one) for one in members):
        return ""
    return (
        f"its parent is {row.ppid}, which only takes in what has lost its own; a server on standard input is a child"
        " of its client, so that one seems to be gone (a listing cannot prove it)"
    )


def _takes_in(pid: int, rows: Mapping[int, Merged]) -> bool:
    """The first process, if it is no host in a container, and a user's own systemd."""
    row = rows.get(pid)
    if row is None:
        return pid == 1
    words = row.listed.command.split()
    program = base(words[0]).rstrip(":") if words else ""
    return program in _INITS and (pid == 1 or "--user" in words)


def _by_network(one: Attributed) -> bool:
    return one.kind in _SERVING and any(word.strip("-").startswith(_NETWORK) for word in one.process.command[1:])
