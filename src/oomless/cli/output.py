"""How every command prints and fails: an error and its hint on stderr, one JSON object for ``--json``.

Covers: error lines and exit codes, JSON, the console for tables (no colour and no cut lines in a pipe), and text
of strangers (command lines of other processes) made harmless. What a command prints is its own business. rich and
msgspec are loaded by who needs them: the fast commands fail through here as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from oomless.errors import Interrupted, OomlessError

if TYPE_CHECKING:
    import msgspec
    from rich.console import Console

#: What a shell shows for a command that SIGPIPE ended (128 + 13).
BROKEN_PIPE = 141
#: rich takes 80 columns where there is no terminal and cuts what is longer; a pipe has no columns.
PIPE_WIDTH = 1000


def print_error(error: OomlessError) -> None:
    """``oomless: error: ...`` and ``hint: ...`` on stderr. Raises OSError."""
    print("\n".join(map(printable, error.report().split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


def fail(error: OomlessError) -> NoReturn:
    """Prints the error on stderr and exits with its code."""
    try:
        print_error(error)
    except OSError:
        pass  # stderr is closed or its disk is full: the exit code is all that can be said
    sys.exit(error.exit_code)


@contextmanager
def guard() -> Iterator[None]:
    """Around a command (``@guard()`` or ``with guard():``): an error of ours or of the system is one line and its
    exit code, Ctrl-C is 130, and a reader that went away is a quiet end."""
    try:
        yield
        sys.stdout.flush()
    except OomlessError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:
        _to_nowhere()
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        if not error.filename:
            _to_nowhere()
        what = f"cannot use {error.filename}" if error.filename else "cannot write the output"
        fail(OomlessError(what, error.strerror or str(error)))


def _to_nowhere() -> None:
    """What is still in the buffer goes to /dev/null; else Python tries again at exit, and complains."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_json(answer: msgspec.Struct) -> None:
    """One object on one line; its first field names the schema."""
    import msgspec

    if answer.__struct_fields__[:1] != ("schema",):
        raise TypeError(f"{type(answer).__name__} does not start with its schema")
    print(msgspec.json.encode(answer).decode())  # noqa: T201


def print_line(text: str) -> None:
    """One line on stdout, without rich, which takes 25 ms to load."""
    sys.stdout.write(text + "\n")


def console(*, stderr: bool = False) -> Console:
    """For tables and plain lines. ``[...]`` in text is text, numbers are not coloured, and without a terminal there
    is neither colour nor a cut line."""
    from rich.console import Console, ConsoleDimensions

    class Pipeable(Console):
        def on_broken_pipe(self) -> None:
            """rich would exit with 1: leave it to ``guard``."""
            raise BrokenPipeError

    made = Pipeable(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.size = ConsoleDimensions(PIPE_WIDTH, made.height)
    return made


def printable(text: str) -> str:
    """The text with everything escaped that could steer a terminal or cannot be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
