"""What ``oomless status`` prints: trees that run or wait, watched sessions, leftovers and detached processes of ended
sessions, and with ``--why`` the reason of each decision.

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
_ESCAPED = "escaped their cgroup (still killed with their tree):"
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
    sections = {
        _ESCAPED: [_format_escaped(tree, process) for tree in view.trees for process in tree.escaped],
        "sessions:": [_format_session(session) for session in view.sessions],
        "detached from sessions that have ended:": [_format_detached(process) for process in view.detached],
        f"leftovers, not killed because of {_OFF}:": _format_leftovers(view) if view.reap == "off" else [],
    }
    for title, lines in sections.items():
        if lines:
            _print(title)
        for line in lines:
            _print(f"  {printable(line)}")
    if view.reap != "off" and (proven := [leftover for leftover in view.leftovers if not leftover.spared]):
        _print(_format_reapable(proven))
    if why and view.decisions:
        _print("last decisions:")
        for decision in view.decisions:
            _print(f"  {printable(_format_decision(decision))}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def headline(view: StatusView) -> str:
    """``2 running, 1 waiting; 812 MB of 2.00 GB reserved; 5.20 GB available (512 MB headroom)``"""
    running, waiting = (sum(tree.state == state for tree in view.trees) for state in ("running", "waiting"))
    budget = "" if view.budget_bytes is None else f" of {format_size(view.budget_bytes)}"
    reserved = f"{format_size(view.reserved_bytes)}{budget} reserved"
    available = f"{format_size(view.memory.available_bytes)} available"
    pressure = "".join(_format_pressure(group) for group in view.pressure if group.warned or group.ending)
    headroom = f"({format_size(view.headroom_bytes)} headroom)"
    return f"{running} running, {waiting} waiting; {reserved}; {available} {headroom}{pressure}"


def _format_pressure(pressure: PressureView) -> str:
    trees = "all trees" if pressure.group is None else f"the trees of {pressure.group}"
    budget = f"{format_size(pressure.used_bytes)} of a {format_size(pressure.may_use_bytes)} budget"
    victim = f", killing {pressure.ending}" if pressure.ending else ""
    return f"; {trees} use {budget}{victim}"


def _print_trees(trees: tuple[TreeView, ...], why: bool) -> None:
    rows = [[*_row(tree), *([printable(tree.reason)] if why else [])] for tree in trees]
    print_table([*_COLUMNS, _WHY] if why else _COLUMNS, rows)


def _row(tree: TreeView) -> list[str]:
    sizes = [_size(tree.used_bytes), _size(tree.reserved_bytes), _size(tree.limit_bytes)]
    state = f"ended ({tree.status})" if tree.state == "ended" and tree.status else tree.state
    pid = "-" if tree.pid is None else str(tree.pid)
    return [printable(tree.tree), printable(tree.name), state, *sizes, format_duration(tree.seconds), pid]


def _format_session(session: LiveSession) -> str:
    """``claude-code 5f3a (pid 812) for 3 min 20 s in /home/me/work; 2 subagents running, 1 waiting``"""
    where = f" for {format_duration(session.seconds)}" if session.pid else ""
    where += f" in {session.cwd}" if session.cwd else ""
    pid = f"pid {session.pid}" if session.pid else "not registered"
    running, waiting = session.subagents_running, session.subagents_waiting
    subagents = f"{running} subagent{'s' * (running != 1)} running, {waiting} waiting"
    return f"{session.host} {session.sessions[-1]} ({pid}){where}; {subagents}"


def _format_escaped(tree: TreeView, process: EscapedProcess) -> str:
    return f"pid {process.pid} {process.command} (of {tree.name}) to {process.to}: {process.why}"


def _format_detached(process: DetachedProcess) -> str:
    return f"pid {process.pid} {process.command} ({process.host} {process.session}): {process.why}"


def _format_leftovers(view: StatusView) -> list[str]:
    return [
        f"pid {leftover.pid} {leftover.command} ({leftover.host} {leftover.session})"
        + (f": {leftover.spared}" if leftover.spared else "")
        for leftover in view.leftovers
    ]


def _format_reapable(proven: list[Leftover]) -> str:
    """``3 leftover processes (41 MB) can be killed: oomless reap``, by their private memory where it can be read."""
    from oomless.platform import current

    footprints = map(current().footprint, (leftover.pid for leftover in proven))
    sizes = [footprint.private_bytes for footprint in footprints if footprint and footprint.private_bytes is not None]
    freed = f" ({format_size(sum(sizes))})" if sizes else ""
    return f"{len(proven)} leftover process{'es' * (len(proven) > 1)}{freed} can be killed: oomless reap"


def _size(size: int | None) -> str:
    return "-" if size is None else format_size(size)


def _format_decision(decision: DecisionView) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(decision.at))
    return f"{when} {decision.name} ({decision.tree}) {decision.verdict}: {decision.reason}"
