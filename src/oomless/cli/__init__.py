"""The ``oomless`` command. ``run`` is dispatched before typer, rich or msgspec are imported (they take longer to load
than all of ``run``); everything else is in ``app.py``, one file per command."""

from __future__ import annotations

import sys


def main() -> None:
    argv = sys.argv[1:]
    if argv[:1] == ["run"]:
        from oomless.cli.run import main as run

        sys.exit(run(argv[1:]))
    from oomless.cli.app import app

    app(prog_name="oomless")
