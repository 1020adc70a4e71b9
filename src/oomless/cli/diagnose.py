"""``oomless diagnose``: the root-cause report, of this machine and its journal or of a saved text. Options and
printing; it signals no process and starts no daemon."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Literal

import typer

from oomless import catalog, listing
from oomless.catalog import Catalog
from oomless.cli.output import guard, print_json
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.reports.diagnose import html, live, markdown, report, text
from oomless.reports.listing import read_text, source_name
from oomless.units import parse_duration

SINCE = "24h"


@guard()
def command(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|-", help="A saved listing or report; - reads standard input."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help=f"How far back the journal is read ({SINCE}).")
    ] = None,
    format: Annotated[
        Literal["md", "html", "json"] | None, typer.Option("--format", help="How to print it (md).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what used the memory and why, with the evidence."""
    if source is not None and since is not None:
        raise UsageError("--since is for the journal of this machine", "--from reads a text", "leave one of them out")
    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} exclude each other", "", "leave one of them out")
    back = parse_duration(since or SINCE, "--since")
    paths = Paths()
    programs = Catalog(catalog.load(paths.catalog_file).programs)
    if source is None:
        built = report.build_report(
            live.look_at_machine(paths, programs, time.time() - back),
            f"this machine, and its journal of the last {since or SINCE}",
        )
    else:
        said = read_text(source)
        built = report.build_report(text.build_case(said, listing.parse_listing(said), programs), source_name(source))
    if json or format == "json":
        print_json(built)
    else:
        rendered = html.render_html(built) if format == "html" else markdown.render_markdown(built)
        sys.stdout.write(rendered)
