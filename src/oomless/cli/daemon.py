"""``oomless daemon``: start, stop, status and logs of the daemon that every other command starts by itself.

``stop`` and ``status`` start nothing. Not here: what the daemon does (``daemon/``) and what it governs
(``status.py``).
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import msgspec
import typer

assert sys.platform == "linux"

from oomless.cli.output import console, guard, print_json, printable
from oomless.paths import Paths
from oomless.protocol import log_file
from oomless.protocol.client import Client
from oomless.protocol.views import DaemonView
from oomless.units import format_size

app = typer.Typer(help="Start, stop and look at the daemon.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """``pid`` of the daemon that was stopped; None if none ran."""

    schema: str = "oomless.daemon/1"
    pid: int | None


@app.command()
@guard()
def start(json: Json = False) -> None:
    """Start the daemon, unless it runs already."""
    _show(Client(Paths(), start=True).daemon(), json)


@app.command()
@guard()
def stop(json: Json = False) -> None:
    """Stop the daemon and wait until it is gone. What runs governed goes on."""
    pid = Client(Paths(), start=False).stop()
    if json:
        print_json(Stopped(pid=pid))
    else:
        console().print("no daemon runs" if pid is None else f"the daemon (pid {pid}) has stopped")


@app.command()
@guard()
def status(json: Json = False) -> None:
    """Show the daemon: its process, where it listens and what it costs."""
    _show(Client(Paths(), start=False).daemon(), json)


@app.command()
@guard()
def logs(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
) -> None:
    """Show the daemon's log."""
    out = console()
    for line in log_file.lines(Paths().log, count, follow):
        if json:
            print(msgspec.json.encode(log_file.as_fields(line)).decode(), flush=True)  # noqa: T201
        else:
            out.print(printable(_in_words(line)), soft_wrap=True)


def _show(view: DaemonView, json: bool) -> None:
    if json:
        print_json(view)
        return
    out = console()
    if view.pid is None:
        out.print("no daemon runs; the first command that needs it starts it")
        return
    out.print(f"the daemon (pid {view.pid}, version {view.version}) runs", soft_wrap=True)
    memory = f"{format_size(view.private_dirty_bytes or 0)} private, {format_size(view.pss_bytes or 0)} PSS"
    tokens = view.token_files
    for name, value in (
        ("socket", view.socket),
        ("url", view.url),
        ("tokens", tokens and f"{tokens.hooks}, {tokens.mcp}, {tokens.read}"),
        ("open trees", str(view.open_trees)),
        ("memory", memory),
    ):
        out.print(f"  {name:<12}{printable(value or '-')}", soft_wrap=True)


def _in_words(line: log_file.Line) -> str:
    if line.at is None:
        return line.text
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
    rest = " ".join(f"{name}={value}" for name, value in line.fields.items() if value is not None)
    return f"{when} {line.level:<7} {line.text}{'  ' if rest else ''}{rest}"
