"""The ``oomless`` command. What people and hosts wait for (``run``, ``hook``, ``status``, ``scan``, help) is answered
before typer and rich are imported, which take longer to load than any of these; everything else is in
``app.py``, one file per command. What typer itself finds wrong comes out like every other error."""

from __future__ import annotations

import os
import sys

from oomless import __version__
from oomless.errors import OomlessError, UnsupportedPlatform, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    if sys.platform not in ("linux", "darwin"):
        _fail(UnsupportedPlatform(f"{sys.platform} is not supported", "", "run it on Linux, or macOS in part"))
    try:
        sys.exit(dispatch(sys.argv[1:]))
    finally:
        _flush_errors()


def dispatch(argv: list[str]) -> int:
    """The exit code of the command with these arguments; the words of ``oomless`` itself are answered first."""
    if "_OOMLESS_COMPLETE" in os.environ:
        return _run_typer(argv, _word_to_complete())
    match argv:
        case ["run", *arguments]:
            return _run(arguments)
        case ["hook", *arguments] if sys.platform == "linux":
            from oomless.cli.hook import main as hook

            return hook(arguments)
        case ["status", *arguments]:
            from oomless.cli.status_view import answer

            if answer(arguments):
                return 0
        case ["scan", *arguments]:
            from oomless.cli.scan_view import answer as scan

            if scan(arguments):
                return 0
        case [] | ["--help" | "-h" | "help"]:
            from oomless.cli.commands import format_help

            return _print(format_help())
        case ["--version" | "version"]:
            return _print(f"oomless {__version__}\n")
        case ["help", *names] if not any(name.startswith("-") for name in names):
            return dispatch([*names, "--help"])
    return _run_typer(argv, argv[0])


def _run(arguments: list[str]) -> int:
    if sys.platform == "linux":
        from oomless.cli.run import main as run
    else:
        from oomless.cli.run_darwin import main as run
    return run(arguments)


def _print(text: str) -> int:
    from oomless.cli.output import guard

    with guard():
        sys.stdout.write(text)
    return 0


def _run_typer(argv: list[str], wanted: str) -> int:
    from oomless.cli.commands import LINUX_ONLY, SUMMARIES, is_supported

    if wanted in LINUX_ONLY and not is_supported(wanted):
        why = "it needs the daemon, which is written for Linux only so far"
        _fail(UnsupportedPlatform(f"oomless {wanted} does not run on {sys.platform}", why, "run it on Linux"))
    from oomless.cli.app import build

    try:
        code = build(wanted)(argv, prog_name="oomless", standalone_mode=False, obj=dispatch)
    except Exception as error:
        if type(error).__name__ == "Abort":  # Ctrl-C outside a command of ours
            return 130
        # click has moved into typer (0.29), and with it the classes: what makes a usage error is its message.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            return 2
        words = " ".join(["oomless", *[word for word in argv[:1] if word in SUMMARIES], "--help"])
        _fail(UsageError(error.format_message().rstrip("."), "", f"see {words}"))
    return code if isinstance(code, int) else 0


def _word_to_complete() -> str:
    """The command whose options a shell's completion may ask for; only that one is loaded."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return "".join(line.split()[1:2])


def _flush_errors() -> None:
    """Nobody reads stderr any more: then Python would end with 120 instead of the command's own code."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(error: OomlessError) -> NoReturn:
    sys.stderr.write(error.report() + "\n")
    sys.exit(error.exit_code)
