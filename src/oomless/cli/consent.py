"""Shows what would be changed in a file of the user's, and asks for consent."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from oomless.cli.output import console, printable
from oomless.errors import UsageError

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def agreed(diff: Sequence[str], *, yes: bool, json: bool) -> bool:
    """Shows the diff and asks, unless ``yes``. Raises UsageError where there is no terminal to ask on. With ``json``
    everything is on stderr, for stdout is the object's."""
    may_ask = sys.stdin.isatty() and (sys.stderr if json else sys.stdout).isatty()
    out = console(stderr=json)
    if not json or may_ask:
        for line in diff or ["(only a secret changes, which is not shown)"]:
            out.print(printable(line), style=_STYLES.get(line[:1]), soft_wrap=True)
    if yes:
        return True
    if not may_ask:
        raise UsageError("nothing was written", "there is no terminal to ask on", "add --yes to write it")
    out.print("Write this? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    out.print("nothing was written")
    return False
