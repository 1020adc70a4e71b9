"""``oomless doctor``: the containment rungs of this machine with a trial kill on each, and the state of each host."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

assert sys.platform == "linux"

from oomless.cli.install import current_target
from oomless.cli.output import console, guard, print_json, printable
from oomless.hosts.installation import HostView
from oomless.paths import Paths
from oomless.reports.doctor import DoctorReport, examine_machine
from oomless.units import format_size


@guard()
def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how trees are contained here, try a kill, check the hosts.

    Every rung that this machine offers is tried on a small tree with the known ways to escape. Exit 1 if one
    left a survivor.
    """
    paths = Paths()
    paths.make()
    report = examine_machine(paths, current_target(paths))
    if as_json:
        print_json(report)
    else:
        show_report(report)
    if any(rung.survivors for rung in report.rungs):
        raise typer.Exit(1)


def show_report(report: DoctorReport) -> None:
    out = console()
    available, total = format_size(report.available_bytes), format_size(report.total_bytes)
    out.print(f"{report.platform}: {available} of {total} available")
    table = Table("RUNG", "USABLE", "TRIAL KILL", "WHY", box=None, pad_edge=False, header_style="bold")
    for rung in report.rungs:
        name = f"{rung.name} (chosen)" if rung.chosen else rung.name
        trial = "-"
        if rung.survivors is not None:
            trial = f"{rung.ended} killed, {rung.survivors} survivors, {rung.seconds:.2f} s"
        table.add_row(name, "yes" if rung.usable else "no", trial, rung.why)
    out.print(table)
    for gap in report.gaps:
        out.print(f"- {gap}", highlight=False)
    for host in report.hosts:
        show_host(host)


def show_host(host: HostView) -> None:
    out = console()
    version = f"{host.program} {host.version or '(version unknown)'}" if host.program else "not on PATH"
    state = f"{host.host}: {version}; hooks: {host.hooks}, prefix: {host.prefix} in {host.settings}"
    out.print(printable(state), soft_wrap=True)
    for line in (*host.problems, *host.notes):
        out.print(f"- {printable(line)}", soft_wrap=True)
