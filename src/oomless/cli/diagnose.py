"""``oomless diagnose``: the root-cause report, of this machine and its journal or of a saved text.

Covers options, reading the text, and printing. What is in the report is ``diagnose/``'s business; a live look is
``scanner.py``'s. It signals nobody and starts no daemon.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

import time
from typing import Annotated, Literal

import typer

from oomless.census import catalog
from oomless.census.catalog import Catalog
from oomless.cli.output import guard, print_json
from oomless.cli.scanner import Scanner, inside, owner_of
from oomless.diagnose import html, live, markdown, report, text
from oomless.diagnose.facts import Case, Inside
from oomless.errors import UsageError
from oomless.paths import Paths
from oomless.platform import current, listing
from oomless.units import parse_duration

SINCE = "24h"
#: A report or a listing that a person saved is far smaller.
LARGEST = 32 * 2**20


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
    """Say what used the memory and why: claims, contradictions, and what to do."""
    if source is not None and since is not None:
        raise UsageError("--since is for the journal of this machine", "--from reads a text", "leave one of them out")
    if json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} exclude each other", "", "leave one of them out")
    back = parse_duration(since or SINCE, "--since")
    paths = Paths()
    programs = Catalog(catalog.load(paths.catalog_file).programs)
    if source is None:
        found = report.build(
            _live(paths, programs, back), f"this machine, and its journal of the last {since or SINCE}"
        )
    else:
        said = read(source)
        case = text.build(said, listing.parse(said), programs)
        found = report.build(case, "standard input" if source == "-" else source)
    if json or format == "json":
        print_json(found)
    else:
        rendered = html.render(found) if format == "html" else markdown.render(found)
        sys.stdout.write(rendered)


def _live(paths: Paths, programs: Catalog, back: float) -> Case:
    scanner = Scanner(current(), paths)
    scan = scanner.scan(scanner.status())
    counts: dict[str, int] = {}
    for tree in inside(scan.status):
        if tree.state == "running":
            session = owner_of(tree)[1]
            counts[session] = counts.get(session, 0) + 1
    since = time.time() - back
    within = [Inside(session=session, number=number) for session, number in counts.items()]
    return live.build(scan.report, within, live.read(paths.journal, since), programs, since)


def read(source: str) -> str:
    """The text, of whatever bytes; raises UsageError."""
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with open(source, "rb") as file:
                raw = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {source}", error.strerror or str(error), "name a file with the listing"
        ) from None
    if len(raw) > LARGEST:
        raise UsageError(
            f"{source} is too large", f"more than {LARGEST // 2**20} MiB", "cut it to the listing itself"
        )
    if not raw.strip():
        raise UsageError(f"{source} is empty", "", "save a listing to it: ps aux > FILE")
    return raw.decode("utf-8", errors="replace")
