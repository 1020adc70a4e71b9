"""What ``oomless status`` prints: what runs governed and what waits, the sessions that are watched, what their dead
predecessors left, and with ``--why`` the reason of each decision.

Starts no daemon: without one, nothing is governed. The facts are the daemon's (``protocol/views.py``). Neither typer
nor rich is loaded: each takes about as long as all the rest.
"""

from __future__ import annotations

import sys
import time

import msgspec

from oomless.cli.output import guard, print_json, printable
from oomless.cli.plain_table import Column, print_table
from oomless.errors import UsageError
from oomless.model import DetachedProcess, EscapedProcess, Leftover, LiveSession
from oomless.paths import Paths
from oomless.protocol.client import Client
from oomless.protocol.views import DecisionView, PressureView, StatusView, TreeView
from oomless.units import format_duration, format_size

_OFF = 'reap = "off"'
_ESCAPED = "out of reach of their trees' limits, for they moved to other groups (they end with their trees):"
_COLUMNS = [
    Column("TREE"),
    Column("NAME", fold=True),
    Column("STATE"),
    *(Column(title, right=True) for title in ("USED", "RESERVED", "LIMIT", "TIME", "PID")),
]
_WHY = Column("WHY", fold=True, min_width=20)


def answer(arguments: list[str]) -> bool:
    """Prints the status. False, with nothing printed, for arguments that typer is to explain or to refuse."""
    names = [argument for argument in arguments if argument not in ("--why", "--json")]
    if len(names) > 1 or any(name.startswith("-") for name in names):
        return False
    print_status(names[0] if names else None, "--why" in arguments, "--json" in arguments)
    return True


@guard()
def print_status(name: str | None, why: bool, json: bool) -> None:
    """``name``: of one tree only, by id or name. Exits as every command does where that fails."""
    client = Client(Paths(), start=False)
    view = client.status()
    if name is not None:
        view = _only(view, client.tree(name), name)
    if json:
        print_json(view)
    else:
        show(view, why)


def _only(view: StatusView, tree: TreeView | None, name: str) -> StatusView:
    if tree is None:
        why = "no daemon runs" if view.pid is None else ""
        raise UsageError(f"there is no tree {name!r}", why, "oomless status shows all that run and wait")
    decisions = tuple(decision for decision in view.decisions if decision.tree == tree.tree)
    return msgspec.structs.replace(
        view, trees=(tree,), sessions=(), detached=(), leftovers=(), idle=(), decisions=decisions
    )


def show(view: StatusView, why: bool) -> None:
    if view.pid is None:
        how = "oomless run starts one" if sys.platform == "linux" else "there is none on macOS yet"
        _print(f"no daemon runs, so nothing is governed; {how}")
        return
    _print(printable(headline(view)))
    if view.problem:
        _print(f"settings: {printable(view.problem)}")
    if view.trees:
        _print_trees(view.trees, why)
    for title, lines in (
        (_ESCAPED, [_escaped(tree, one) for tree in view.trees for one in tree.escaped]),
        ("sessions:", [_session(session) for session in view.sessions]),
        ("detached, of sessions that are gone:", [_left(one) for one in view.detached]),
        (f"left by sessions that are gone, and only listed ({_OFF}):", _listed_only(view)),
    ):
        if lines:
            _print(title)
        for line in lines:
            _print(f"  {printable(line)}")
    if view.reap != "off" and (proven := [one for one in view.leftovers if not one.spared]):
        _print(_can_be_ended(proven))
    if why and view.decisions:
        _print("last decisions:")
        for decision in view.decisions:
            _print(f"  {printable(_decided(decision))}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def headline(view: StatusView) -> str:
    """``2 run, 1 waits; 812 MB held of a budget of 2.00 GB; 5.20 GB available, of which 512 MB stay free``"""
    counts = {state: sum(tree.state == state for tree in view.trees) for state in ("running", "waiting")}
    held = f"{format_size(view.held_bytes)} held"
    if view.budget_bytes is not None:
        held += f" of a budget of {format_size(view.budget_bytes)}"
    room = f"{format_size(view.memory.available_bytes)} available"
    running, waiting = counts["running"], counts["waiting"]
    verbs = f"{running} run{'s' * (running == 1)}, {waiting} wait{'s' * (waiting == 1)}"
    pressing = "".join(_pressing(one) for one in view.pressure if one.warned or one.ending)
    return f"{verbs}; {held}; {room}, of which {format_size(view.headroom_bytes)} stay free{pressing}"


def _pressing(found: PressureView) -> str:
    whose = "all together" if found.group is None else f"those of {found.group} together"
    of = f"{format_size(found.used_bytes)} of the {format_size(found.may_use_bytes)}"
    ending = f", {found.ending} is being ended for the others" if found.ending else ""
    return f"; {whose} use {of} that they may{ending}"


def _print_trees(trees: tuple[TreeView, ...], why: bool) -> None:
    rows = [[*_row(tree), *([printable(tree.reason)] if why else [])] for tree in trees]
    print_table([*_COLUMNS, _WHY] if why else _COLUMNS, rows)


def _row(tree: TreeView) -> list[str]:
    sizes = [_size(tree.used_bytes), _size(tree.reserved_bytes), _size(tree.limit_bytes)]
    state = f"ended ({tree.status})" if tree.state == "ended" and tree.status else tree.state
    pid = "-" if tree.pid is None else str(tree.pid)
    return [printable(tree.tree), printable(tree.name), state, *sizes, format_duration(tree.seconds), pid]


def _session(session: LiveSession) -> str:
    """``claude-code 5f3a (pid 812) for 3 min 20 s in /home/me/work; 2 subagents run, 1 waits``"""
    where = f" for {format_duration(session.seconds)}" if session.pid else ""
    where += f" in {session.cwd}" if session.cwd else ""
    pid = f"pid {session.pid}" if session.pid else "not registered"
    running, waiting = session.subagents_running, session.subagents_waiting
    counts = (
        f"{running} subagent{'s' * (running != 1)} run{'s' * (running == 1)}, {waiting} wait{'s' * (waiting == 1)}"
    )
    return f"{session.host} {session.sessions[-1]} ({pid}){where}; {counts}"


def _escaped(tree: TreeView, one: EscapedProcess) -> str:
    return f"pid {one.pid} {one.command} (of {tree.name}) to {one.to}: {one.why}"


def _left(one: DetachedProcess) -> str:
    return f"pid {one.pid} {one.command} ({one.host} {one.session}): {one.why}"


def _listed_only(view: StatusView) -> list[str]:
    """With ``reap = "off"``."""
    if view.reap != "off":
        return []
    return [
        f"pid {one.pid} {one.command} ({one.host} {one.session})" + (f": {one.spared}" if one.spared else "")
        for one in view.leftovers
    ]


def _can_be_ended(proven: list[Leftover]) -> str:
    """``3 processes (41 MB) can be ended: oomless reap``, by their private memory, where that can be read."""
    from oomless.platform import current

    platform = current()
    sizes = [found.private_bytes for one in proven if (found := platform.footprint(one.pid)) is not None]
    known = [size for size in sizes if size is not None]
    back = f" ({format_size(sum(known))})" if known else ""
    return f"{len(proven)} process{'es' if len(proven) > 1 else ''}{back} can be ended: oomless reap"


def _size(size: int | None) -> str:
    return "-" if size is None else format_size(size)


def _decided(decision: DecisionView) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(decision.at))
    return f"{when} {decision.name} ({decision.tree}) {decision.verdict}: {decision.reason}"
