"""``oomless demo``: the incident replayed in five acts, with its real programs or (``--synthetic``) with small agents
of ours. Exit 1 if a check fails."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from oomless import atomicfile
from oomless.cli.output import console, guard, print_json
from oomless.demo.record import DemoRecord
from oomless.demo.show import Progress, draw_svg, make_title, show_missing, show_record, show_step
from oomless.errors import UnsupportedPlatform, UsageError
from oomless.units import parse_size

MB = 10**6
DEFAULT_AGENTS, DEFAULT_MEMORY, DEFAULT_SECONDS = 5, 120 * MB, 2.0


@guard()
def command(
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Small Python agents instead of the real programs: a minute, no download."),
    ] = False,
    agents: Annotated[
        int | None,
        typer.Option("--agents", metavar="N", help=f"Number of synthetic agents, 4 or more. [{DEFAULT_AGENTS}]"),
    ] = None,
    agent_memory: Annotated[
        str | None,
        typer.Option(
            "--agent-memory", metavar="SIZE", help=f"Memory of a synthetic agent. [{DEFAULT_MEMORY // MB}MB]"
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help=f"Seconds that a synthetic agent works. [{DEFAULT_SECONDS:g}]"),
    ] = None,
    svg_file: Annotated[
        str | None, typer.Option("--svg", metavar="FILE", help="Also draw memory over time to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Replay the incident: parallel, in sequence, killed, governed.

    Each is a session of Claude Code with five MCP servers against a scripted model. These programs are installed into
    the cache folder first, about 900 MB, once.
    """
    if svg_file is not None:
        _check_writable(svg_file)
    if synthetic:
        size = DEFAULT_MEMORY if agent_memory is None else parse_size(agent_memory, "--agent-memory")
        count = DEFAULT_AGENTS if agents is None else agents
        record = _replay_synthetic(count, size, DEFAULT_SECONDS if seconds is None else seconds, as_json)
    else:
        given = {"--agents": agents, "--agent-memory": agent_memory, "--seconds": seconds}
        for option in [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{option} is for the synthetic agents only", "", "add --synthetic, or leave it out")
        record = _replay_real(as_json)
    if svg_file is not None:
        _write(svg_file, draw_svg(record.acts, make_title(record.form, record.agents)))
    if as_json:
        print_json(record)
    else:
        out = console()
        show_record(out, record)
        if svg_file is not None:
            out.print(f"Drawn to {svg_file}", soft_wrap=True)
    if not record.ok:
        raise typer.Exit(1)


def _replay_synthetic(agents: int, agent_bytes: int, seconds: float, as_json: bool) -> DemoRecord:
    if sys.platform == "linux":
        from oomless.demo.agents import make_plan
        from oomless.demo.replay import find_available, replay

        plan = make_plan(agents, agent_bytes, seconds, find_available())
        return replay(plan, Progress(_progress_console(as_json), "synthetic", agents))
    raise _unsupported()


def _replay_real(as_json: bool) -> DemoRecord:
    if sys.platform == "linux":
        from oomless.demo.agents import PAGES, check_real_room
        from oomless.demo.parts import Parts
        from oomless.demo.replay import find_available, replay_real

        check_real_room(len(PAGES), find_available())
        out, parts = console(stderr=as_json), Parts()
        missing = parts.missing()
        if missing:
            names, size = [part.name for part in missing], sum(part.bytes for part in missing)
            show_missing(out, names, size, str(parts.folder))
        built = parts.build(lambda name, step: show_step(out, name, step))
        for name, reason in built.servers_missing.items():
            out.print(f"{name} is left out: {reason}", soft_wrap=True)
        return replay_real(built, Progress(_progress_console(as_json), "real", len(PAGES)))
    raise _unsupported()


def _progress_console(as_json: bool) -> Console:
    """With ``--json``, progress goes to stderr if that is a terminal, and else nowhere."""
    out = console(stderr=as_json)
    out.quiet = as_json and not out.is_terminal
    return out


def _unsupported() -> UnsupportedPlatform:
    return UnsupportedPlatform(f"the demo does not run on {sys.platform}", "", "run it on Linux")


def _check_writable(path: str) -> None:
    """Before minutes of work, not after them."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}", "", "name a file in a folder that exists and is yours")


def _write(path: str, text: str) -> None:
    try:
        atomicfile.write(path, text, 0o666)
    except OSError as error:
        raise UsageError(f"cannot write {path}", error.strerror or str(error), "name another file") from None
