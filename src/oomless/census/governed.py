"""Who belongs to a governed tree: everything below its shim or root, and everything that carries its marker.

Pure. Which trees are open is the daemon's knowledge; ending them is ``contain/``'s business, with the means of
each rung. What has wiped its environment and lost its parents is not found here.
"""

from __future__ import annotations

import msgspec

from oomless.census.daemon_facts import OpenTree, Role
from oomless.census.snapshot import Snapshot
from oomless.model import ProcessInfo
from oomless.processes.ancestry import Lineage
from oomless.processes.ours import owns_tree, prefixed


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


def find(snapshot: Snapshot, trees: tuple[OpenTree, ...], install_id: str) -> tuple[GovernedTree, ...]:
    """The members of each open tree; markers of another installation are passed over."""
    if not trees:
        return ()
    lineage = Lineage(snapshot.processes)
    marked, innermost = _marked(snapshot, install_id)
    return tuple(_gather(tree, lineage, marked.get(tree.tree, set()), innermost.get(tree.tree, ())) for tree in trees)


def _marked(snapshot: Snapshot, install_id: str) -> tuple[dict[str, set[int]], dict[str, list[int]]]:
    """Whoever carries the marker of a tree, and whoever has it as its innermost one."""
    found: dict[str, set[int]] = {}
    innermost: dict[str, list[int]] = {}
    for process, marks in zip(snapshot.processes, snapshot.marks, strict=True):
        install, colon, path = marks.trees.partition(":")
        if colon and install == install_id:
            path_of_trees = path.split("/")
            for tree in path_of_trees:
                found.setdefault(tree, set()).add(process.pid)
            innermost.setdefault(path_of_trees[-1], []).append(process.pid)
    return found, innermost


def _gather(tree: OpenTree, lineage: Lineage, marked: set[int], innermost: list[int] | tuple[()]) -> GovernedTree:
    root = lineage.by_pid.get(tree.root_pid)
    if root is not None and tree.root_start not in (None, root.start):
        root = None
    shim = _shim(tree, root, lineage, innermost)
    # A live shim adopts whoever loses its parent in the tree, so descent from it is complete.
    members = set(marked)
    for top in (shim, root.pid if root else None):
        if top is not None:
            members |= {top, *lineage.descendants(top)}
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


def _shim(tree: OpenTree, root: ProcessInfo | None, lineage: Lineage, innermost: list[int] | tuple[()]) -> int | None:
    """The process that runs ``boot.py SPEC TREE -- ...``, or the prefix that became the shim in place. Never just the
    root's parent: if the shim was killed, that is init, and everything is below init."""
    if root is not None:
        above = lineage.parent(root.pid)
        return above if above is not None and _runs_shim(lineage.by_pid[above], tree) else None
    if tree.role != "tree":
        # The prefix's arguments don't name the tree: it is above those of the tree that live.
        shims = (next((a for a in lineage.ancestors(pid) if prefixed(lineage.by_pid[a])), None) for pid in innermost)
        found = list({pid for pid in shims if pid is not None})
    else:
        found = [process.pid for process in lineage.by_pid.values() if _runs_shim(process, tree)]
    return found[0] if len(found) == 1 else None


def _runs_shim(process: ProcessInfo, tree: OpenTree) -> bool:
    return owns_tree(process, tree.tree) or (tree.role != "tree" and bool(prefixed(process)))
