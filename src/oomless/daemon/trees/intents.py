"""What goes into the journal before anything is forked, made of what was asked, settled and offered.

Pure but for the look at the process table that a session is checked by. Not here: the conversation (``leases.py``).
"""

from __future__ import annotations

import sys
import time

assert sys.platform == "linux"

from oomless.admission.events import Admit, Restore
from oomless.contain.rungs.choose import Offer
from oomless.daemon.trees.limits import Settled
from oomless.daemon.trees.tree import Tree
from oomless.journal.facts import Session, TreeIntent
from oomless.model import Identity
from oomless.platform import proc
from oomless.protocol import wire
from oomless.redact import command_line

#: Names stand in tables.
NAME_KEPT = 60
#: The kinds that take a place, and that the bounds of a group are for.
PLACES = ("tree", "slot")


def intent_of(
    admit: Admit,
    lease: wire.Lease,
    settled: Settled,
    parent: Tree | None,
    peer: Identity,
    offer: Offer,
    install: str,
    session: Session | None,
) -> TreeIntent:
    slot = lease.kind == "slot"
    return TreeIntent(
        tree=admit.id,
        kind=lease.kind,
        name=name_of(lease),
        klass=lease.klass,
        owner=lease.owner,
        argv=lease.argv,
        cwd=lease.cwd,
        boot_id=peer.boot_id,
        parent=parent.id if parent else None,
        group=settled.group,
        group_budget=settled.group_budget,
        group_parallel=settled.group_parallel,
        reserved=admit.reserved,
        limit=settled.limit,
        processes=settled.processes,
        rung="" if slot else offer.name,
        cgroups={} if slot else offer.cgroups(leaf(install, admit.id)),
        marker=f"{parent.intent.marker}/{admit.id}" if parent else f"{install}:{admit.id}",
        requester=peer,
        intended_at=time.time(),
        session=session,
    )


def restore_of(intent: TreeIntent, used: int, at: float) -> Restore:
    """What is held without having been asked for. Tool shells and servers take no place, and put nobody who asks from
    inside of them under the bounds of their group: a subagent's place would be waited for by what it waits for."""
    place = intent.kind in PLACES
    return Restore(
        id=intent.tree,
        name=intent.name,
        reserved=intent.reserved,
        parent=intent.parent,
        group=intent.group,
        group_budget=intent.group_budget if place else None,
        group_parallel=intent.group_parallel if place else None,
        used=used,
        place=place,
        at=at,
    )


def name_of(lease: wire.Lease) -> str:
    """What a host starts is named by its command line, which may hold secrets: they are masked before it is cut, for
    half a secret does not look like one."""
    return command_line((lease.name,))[:NAME_KEPT] if lease.kind in ("shell", "server") else lease.name


def leaf(install: str, id: str) -> str:
    """The name of a tree's folder in each hierarchy; a sweep touches only those of its own installation."""
    return f"oomless-{install}-{id}"


def belongs_to(lease: wire.Lease, boot: str, peer: int) -> Session | None:
    """The session that a tool shell or server says it is of, if that process really is above it."""
    if lease.session_pid is None or lease.session_start is None:
        return None
    owner = Identity(boot_id=boot, pid=lease.session_pid, start=lease.session_start)
    if proc.start_of(owner.pid) != owner.start:
        return None
    own = stat = proc.read_stat(peer)
    while stat is not None and stat.pid > 1:
        if stat.pid == owner.pid:
            return Session(owner=owner, sid=own.sid) if own is not None else None
        stat = proc.read_stat(stat.ppid)
    return None
