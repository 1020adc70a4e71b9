"""``oomless status``: what runs governed and what waits, the sessions that are watched and what was left running of
others, and with ``--why`` the reason of each decision.

Starts no daemon: without one, nothing is governed. The facts are the daemon's (``protocol/views.py``).
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from oomless.cli.output import console, guard, print_json, printable
from oomless.errors import UsageError
from oomless.model import DetachedProcess, EscapedProcess, Leftover, LiveSession
from oomless.paths import Paths
from oomless.platform import current
from oomless.protocol.client import Client
from oomless.protocol.views import DecisionView, PressureView, StatusView, TreeView
from oomless.units import format_duration, format_size

_OFF = 'reap = "off"'
_ESCAPED = "out of reach of their trees' limits, for they moved to other groups (they end with their trees):"

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@guard()
def command(
    name: Annotated[str | None, typer.Argument(help="One tree only, by id or name; also one that has ended.")] = None,
    why: Annotated[bool, typer.Option("--why", help="The reason of each, and the last decisions.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what runs and what waits."""
    client = Client(Paths(), start=False)
    view = client.status()
    if name is not None:
        view = _only(view, client.tree(name), name)
    if json:
        print_json(view)
    else:
        show(console(), view, why)


def _only(view: StatusView, tree: TreeView | None, name: str) -> StatusView:
    if tree is None:
        why = "no daemon runs" if view.pid is None else ""
        raise UsageError(f"there is no tree {name!r}", why, "oomless status shows all that run and wait")
    decisions = tuple(decision for decision in view.decisions if decision.tree == tree.tree)
    return msgspec.structs.replace(
        view, trees=(tree,), sessions=(), detached=(), leftovers=(), idle=(), decisions=decisions
    )


def show(out: Console, view: StatusView, why: bool) -> None:
    if view.pid is None:
        how = "oomless run starts one" if sys.platform == "linux" else "there is none on macOS yet"
        out.print(f"no daemon runs, so nothing is governed; {how}")
        return
    out.print(printable(headline(view)), soft_wrap=True)
    if view.problem:
        out.print(f"settings: {printable(view.problem)}", soft_wrap=True)
    if view.trees:
        out.print(_table(view.trees, why))
    for title, lines in (
        (_ESCAPED, [_escaped(tree, one) for tree in view.trees for one in tree.escaped]),
        ("sessions:", [_session(session) for session in view.sessions]),
        ("detached, of sessions that are gone:", [_left(one) for one in view.detached]),
        (f"left by sessions that are gone, and only listed ({_OFF}):", _listed_only(view)),
    ):
        if lines:
            out.print(title)
        for line in lines:
            out.print(f"  {printable(line)}", soft_wrap=True)
    if view.reap != "off" and (proven := [one for one in view.leftovers if not one.spared]):
        out.print(_can_be_ended(proven), soft_wrap=True)
    if why and view.decisions:
        out.print("last decisions:")
        for decision in view.decisions:
            out.print(f"  {printable(_decided(decision))}", soft_wrap=True)


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


def _table(trees: tuple[TreeView, ...], why: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("TREE", no_wrap=True)
    table.add_column("NAME", overflow="fold")
    table.add_column("STATE", no_wrap=True)
    for title in ("USED", "RESERVED", "LIMIT", "TIME", "PID"):
        table.add_column(title, justify="right", no_wrap=True)
    if why:
        table.add_column("WHY", overflow="fold", min_width=20)
    for tree in trees:
        table.add_row(*_row(tree), *([printable(tree.reason)] if why else []))
    return table


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
