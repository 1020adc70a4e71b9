"""``oomless daemon``: start, stop, status and logs of the daemon that every other command starts by itself.
``stop`` and ``status`` start nothing.
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

app = typer.Typer(help="Start, stop and inspect the daemon.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class StopResult(msgspec.Struct, frozen=True, kw_only=True):
    """``pid`` of the daemon that was stopped; None if none ran."""

    schema: str = "oomless.daemon/1"
    pid: int | None


@app.command()
@guard()
def start(json: Json = False) -> None:
    """Start the daemon, unless it runs already."""
    _show_daemon(Client(Paths(), start=True).daemon(), json)


@app.command()
@guard()
def stop(json: Json = False) -> None:
    """Stop the daemon and wait until it is gone. Governed trees go on."""
    pid = Client(Paths(), start=False).stop()
    if json:
        print_json(StopResult(pid=pid))
    else:
        console().print("The daemon is not running." if pid is None else f"Stopped the daemon (pid {pid}).")


@app.command()
@guard()
def status(json: Json = False) -> None:
    """Show the daemon's process, sockets and memory."""
    _show_daemon(Client(Paths(), start=False).daemon(), json)


@app.command()
@guard()
def logs(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="Number of lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Follow the log until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON Lines.")] = False,
) -> None:
    """Show the daemon's log."""
    out = console()
    for line in log_file.lines(Paths().log, count, follow):
        if json:
            print(msgspec.json.encode(log_file.as_fields(line)).decode(), flush=True)  # noqa: T201
        else:
            out.print(printable(_format_line(line)), soft_wrap=True)


def _show_daemon(view: DaemonView, json: bool) -> None:
    if json:
        print_json(view)
        return
    out = console()
    if view.pid is None:
        out.print("The daemon is not running. The first command that needs it starts it.")
        return
    out.print(f"The daemon is running: pid {view.pid}, version {view.version}", soft_wrap=True)
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


def _format_line(line: log_file.Line) -> str:
    if line.at is None:
        return line.text
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
    rest = " ".join(f"{name}={value}" for name, value in line.fields.items() if value is not None)
    return f"{when} {line.level:<7} {line.text}{'  ' if rest else ''}{rest}"
