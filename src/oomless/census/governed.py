"""The members of governed trees: everything below a tree's shim or root, and everything that carries its marker.

Pure. A process that has wiped its environment and lost its parents is missed here.
"""

from __future__ import annotations

import msgspec

from oomless.census.daemon_facts import OpenTree, Role
from oomless.census.snapshot import Snapshot
from oomless.model import ProcessInfo
from oomless.processes.ancestry import Ancestry
from oomless.processes.ours import is_shim_of, prefixed


class GovernedTree(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the members, root included, shim excluded. A nested tree's members are in the outer one too.
    ``role``, ``host`` and ``session`` as in ``OpenTree``."""

    tree: str
    name: str
    root_pid: int
    shim_pid: int | None
    pids: frozenset[int]
    role: Role = "tree"
    host: str = ""
    session: str = ""


def find_members(snapshot: Snapshot, trees: tuple[OpenTree, ...], install_id: str) -> tuple[GovernedTree, ...]:
    """Each open tree with its members. Markers of another installation are ignored."""
    if not trees:
        return ()
    marked, innermost = _marked(snapshot, install_id)
    return tuple(
        _gather(tree, snapshot.ancestry, marked.get(tree.tree, set()), tuple(innermost.get(tree.tree, ())))
        for tree in trees
    )


def _marked(snapshot: Snapshot, install_id: str) -> tuple[dict[str, set[int]], dict[str, list[int]]]:
    """By tree, the pids that carry its marker, and those of them that have it as their innermost one."""
    marked: dict[str, set[int]] = {}
    innermost: dict[str, list[int]] = {}
    for pid, marks in snapshot.marks_by_pid.items():
        install, colon, path = marks.trees.partition(":")
        if colon and install == install_id:
            trees = path.split("/")
            for tree in trees:
                marked.setdefault(tree, set()).add(pid)
            innermost.setdefault(trees[-1], []).append(pid)
    return marked, innermost


def _gather(
    tree: OpenTree, ancestry: Ancestry[ProcessInfo], marked: set[int], innermost: tuple[int, ...]
) -> GovernedTree:
    root = ancestry.by_pid.get(tree.root_pid)
    if root is not None and tree.root_start not in (None, root.start):
        root = None
    shim = _find_shim(tree, root, ancestry, innermost)
    # A live shim is the subreaper of its tree, so all that is of the tree and lost its parent is below it.
    members = set(marked)
    for top in (shim, root.pid if root else None):
        if top is not None:
            members |= {top, *ancestry.descendants(top)}
    members.discard(-1 if shim is None else shim)
    return GovernedTree(
        tree=tree.tree,
        name=tree.name,
        root_pid=tree.root_pid,
        shim_pid=shim,
        pids=frozenset(members),
        role=tree.role,
        host=tree.host,
        session=tree.session,
    )


def _find_shim(
    tree: OpenTree, root: ProcessInfo | None, ancestry: Ancestry[ProcessInfo], innermost: tuple[int, ...]
) -> int | None:
    """The process that runs ``boot.py SPEC TREE -- ...``, or the prefix that became the shim in place. Never just the
    root's parent: if the shim was killed, that is init, and everything is below init."""
    if root is not None:
        above = ancestry.parent(root.pid)
        return above if above is not None and _runs_shim(ancestry.by_pid[above], tree) else None
    if tree.role != "tree":
        # The prefix's arguments don't name the tree: it is above those of the tree that live.
        prefixes = frozenset(pid for pid, process in ancestry.by_pid.items() if prefixed(process.command))
        shims = {ancestry.nearest(pid, prefixes) for pid in innermost} - {None}
    else:
        shims = {process.pid for process in ancestry.by_pid.values() if _runs_shim(process, tree)}
    return shims.pop() if len(shims) == 1 else None


def _runs_shim(process: ProcessInfo, tree: OpenTree) -> bool:
    return is_shim_of(process.command, tree.tree) or (tree.role != "tree" and bool(prefixed(process.command)))
