"""``oomless batch`` as typer knows it: its options and their help. What it does is in ``batch_run.py``, which loads
asyncio."""

from __future__ import annotations

import sys
from typing import Annotated

assert sys.platform == "linux"

import typer

from oomless.cli.output import guard
from oomless.errors import UsageError
from oomless.units import parse_size


@guard()
def command(
    file: Annotated[
        str, typer.Argument(metavar="FILE.jsonl", help="JSON Lines, a job a line; - reads standard input.")
    ],
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="SIZE", help="Memory that all jobs together may use.")
    ] = None,
    max_parallel: Annotated[
        str, typer.Option("--max-parallel", metavar="N|auto", help="Most jobs at once; auto: as memory allows.")
    ] = "auto",
    engine: Annotated[str, typer.Option("--engine", metavar="local", help="Where the jobs run.")] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what an interrupted run of this file left.")
    ] = False,
    joblog: Annotated[
        str | None, typer.Option("--joblog", metavar="FILE", help="Write a tab-separated line for each job.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run the other jobs if lines are broken, then exit with 1.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the jobs of a file, as many at once as memory allows."""
    bytes_budget = None if budget is None else parse_size(budget, "--budget")
    parallel = _parse_parallel(max_parallel)
    if engine != "local":
        raise UsageError(f"there is no engine {engine!r}", "", "use --engine local")
    if resume and file == "-":
        raise UsageError("a batch from standard input cannot be resumed", "", "save it to a file")
    from oomless.cli.batch_run import run_batch_file

    code = run_batch_file(
        file, bytes_budget, parallel, resume=resume, joblog=joblog, keep_going=keep_going, json=json
    )
    raise typer.Exit(code)


def _parse_parallel(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--max-parallel {text!r} is not a number of jobs", "", "use 1 or more, or auto")
    return int(text)
