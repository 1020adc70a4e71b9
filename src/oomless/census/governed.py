"""Who belongs to a governed tree: everything below its shim or root, and everything that carries its marker.

Pure. Which trees are open is the daemon's knowledge; ending them is ``contain/``'s business, with the means of
each rung. What has wiped its environment and lost its parents is not found here.
"""

from __future__ import annotations

import msgspec

from oomless.census.lineage import Lineage
from oomless.census.snapshot import OpenTree, Snapshot
from oomless.model import ProcessInfo


class GovernedTree(msgspec.Struct, frozen=True, kw_only=True):
    """``pids`` are the members, root included, shim excluded. A nested tree's members are in the outer one too."""

    tree: str
    name: str
    root_pid: int
    shim_pid: int | None
    pids: frozenset[int]


def find(snapshot: Snapshot, trees: tuple[OpenTree, ...], install_id: str) -> tuple[GovernedTree, ...]:
    """The members of each open tree; markers of another installation are passed over."""
    lineage = Lineage(snapshot.processes)
    marked = _marked(snapshot, install_id)
    return tuple(_gather(tree, lineage, marked.get(tree.tree, set())) for tree in trees)


def _marked(snapshot: Snapshot, install_id: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for process, marks in zip(snapshot.processes, snapshot.marks, strict=True):
        install, colon, path = marks.trees.partition(":")
        if colon and install == install_id:
            for tree in path.split("/"):
                found.setdefault(tree, set()).add(process.pid)
    return found


def _gather(tree: OpenTree, lineage: Lineage, marked: set[int]) -> GovernedTree:
    root = lineage.by_pid.get(tree.root_pid)
    if root is not None and tree.root_start not in (None, root.start):
        root = None
    shim = _shim(tree.tree, root, lineage)
    # A live shim adopts whoever loses its parent in the tree, so descent from it is complete.
    members = set(marked)
    for top in (shim, root.pid if root else None):
        if top is not None:
            members |= {top, *lineage.descendants(top)}
    members.discard(-1 if shim is None else shim)
    return GovernedTree(
        tree=tree.tree, name=tree.name, root_pid=tree.root_pid, shim_pid=shim, pids=frozenset(members)
    )


def _shim(tree: str, root: ProcessInfo | None, lineage: Lineage) -> int | None:
    """The process that runs ``boot.py SPEC TREE -- ...``. Never just the root's parent: if the shim was killed,
    that is init, and everything is below init."""
    if root is not None:
        above = lineage.parent(root.pid)
        return above if above is not None and _runs_shim(lineage.by_pid[above], tree) else None
    found = [process.pid for process in lineage.by_pid.values() if _runs_shim(process, tree)]
    return found[0] if len(found) == 1 else None


def _runs_shim(process: ProcessInfo, tree: str) -> bool:
    words = process.command
    return any(
        word.endswith("/contain/boot.py") and words[at + 2 : at + 4] == (tree, "--")
        for at, word in enumerate(words[:8])
    )
