"""The ``oomless`` command. ``run`` is dispatched before typer, rich or msgspec are imported (they take longer to load
than all of ``run``); everything else is in ``app.py``, one file per command."""

from __future__ import annotations

import sys

from oomless.errors import UnsupportedPlatform


def main() -> None:
    if sys.platform != "linux":
        error = UnsupportedPlatform(f"{sys.platform} is not supported", "only Linux is, so far", "run it on Linux")
        sys.stderr.write(error.line() + "\n")
        sys.exit(error.exit_code)
    argv = sys.argv[1:]
    if argv[:1] == ["run"]:
        from oomless.cli.run import main as run

        sys.exit(run(argv[1:]))
    from oomless.cli.app import app

    app(prog_name="oomless")
