"""``oomless demo --synthetic``: the incident replayed in five acts. Exit 1 if the governed ones fail a check.

Options and output only; the acts are in ``oomless.demo``.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from oomless.cli.output import console, guard, print_json
from oomless.demo import show
from oomless.demo.record import DemoRecord
from oomless.demo.sizing import DEFAULT_AGENTS, DEFAULT_MEMORY, DEFAULT_SECONDS
from oomless.demo.svg import svg
from oomless.errors import UnsupportedPlatform, UsageError
from oomless.units import parse_size


@guard()
def command(
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Small Python agents; the only form there is so far.")
    ] = False,
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", help="How many agents, 4 or more.")
    ] = DEFAULT_AGENTS,
    agent_memory: Annotated[
        str, typer.Option("--agent-memory", metavar="SIZE", help="What each agent itself takes.")
    ] = f"{DEFAULT_MEMORY // 10**6}MB",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="How long each agent works.")
    ] = DEFAULT_SECONDS,
    svg_file: Annotated[
        str | None, typer.Option("--svg", metavar="FILE", help="Also draw memory over time to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Replay the incident with small agents: at once, in sequence, killed, and governed."""
    if not synthetic:
        raise UsageError("the demo has no other form than --synthetic yet", "", "use: oomless demo --synthetic")
    size = parse_size(agent_memory, "--agent-memory")
    if svg_file is not None:
        _check_writable(svg_file)
    record = _replay(agents, size, seconds, as_json)
    if svg_file is not None:
        _write(svg_file, svg(record.acts, show.title(record.agents)))
    if as_json:
        print_json(record)
    else:
        out = console()
        show.show(out, record)
        if svg_file is not None:
            out.print(f"Drawn to {svg_file}", soft_wrap=True)
    if not record.ok:
        raise typer.Exit(1)


def _replay(agents: int, agent_bytes: int, seconds: float, as_json: bool) -> DemoRecord:
    """Bars on a terminal, lines elsewhere; with ``--json`` bars on stderr or nothing."""
    if sys.platform == "linux":
        from oomless.demo.replay import prepare, replay

        plan = prepare(agents, agent_bytes, seconds)
        out = console(stderr=as_json)
        out.quiet = as_json and not out.is_terminal
        out.print(show.title(agents), style="bold")
        if not out.is_terminal:
            return replay(plan, show.Lines(out, agents))
        with show.bars(out) as progress:
            return replay(plan, show.Bars(progress, agents))
    raise UnsupportedPlatform(f"the demo does not run on {sys.platform}", "", "run it on Linux")


def _check_writable(path: str) -> None:
    """Before a minute's work, not after it."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}", "", "name a file in a folder that exists and is yours")


def _write(path: str, text: str) -> None:
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}", error.strerror or str(error), "name another file") from None
