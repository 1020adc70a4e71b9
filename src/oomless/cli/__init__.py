"""The ``oomless`` command. ``run`` and ``hook`` are dispatched before typer, rich or msgspec are imported (they take
longer to load than all of these); everything else is in ``app.py``, one file per command. What typer itself finds
wrong comes out as one line like every other error."""

from __future__ import annotations

import os
import sys

from oomless.errors import OomlessError, UnsupportedPlatform, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    if sys.platform not in ("linux", "darwin"):
        _fail(UnsupportedPlatform(f"{sys.platform} is not supported", "", "run it on Linux, or macOS in part"))
    try:
        sys.exit(_dispatch(sys.argv[1:]))
    finally:
        _flush_errors()


def _dispatch(argv: list[str]) -> int:
    if sys.platform == "linux":
        if argv[:1] == ["run"]:
            from oomless.cli.run import main as run

            return run(argv[1:])
        if argv[:1] == ["hook"]:
            from oomless.cli.hook import main as hook

            return hook(argv[1:])
    elif argv[:1] == ["run"]:
        from oomless.cli.run_darwin import main as run

        return run(argv[1:])
    return _typer(argv)


def _typer(argv: list[str]) -> int:
    from oomless.cli.app import COMMANDS, LINUX_ONLY, build, here, unsupported

    wanted = argv[0] if argv and "_OOMLESS_COMPLETE" not in os.environ else None
    if wanted in LINUX_ONLY and not here(wanted):
        _fail(unsupported(wanted))
    try:
        code = build(wanted)(argv or ["--help"], prog_name="oomless", standalone_mode=False)
    except Exception as error:
        if type(error).__name__ == "Abort":  # Ctrl-C outside a command of ours
            return 130
        # click has moved into typer (0.29), and with it the classes: what makes a usage error is its message.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            return 2
        words = " ".join(["oomless", *[word for word in argv[:1] if word in COMMANDS], "--help"])
        _fail(UsageError(error.format_message().rstrip("."), "", f"see {words}"))
    return code if isinstance(code, int) else 0


def _flush_errors() -> None:
    """Nobody reads stderr any more: then Python would end with 120 instead of the command's own code."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(error: OomlessError) -> NoReturn:
    sys.stderr.write(error.line() + "\n")
    sys.exit(error.exit_code)
