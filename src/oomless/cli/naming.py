"""How a host's tool shell or server is called, short, for people: by the line that it was told to run.

Standard library only: the shell prefix loads it (``prefix.py``).
"""

from __future__ import annotations

#: So much of a name is shown.
NAME_KEPT = 60


def name_of(kind: str, line: str, kept: int = NAME_KEPT) -> str:
    """A tool shell's own command stands in an ``eval`` behind the preliminaries."""
    if kind == "server":
        return " ".join(line.split())[:kept]
    _, found, rest = line.partition("eval '")
    command = rest.rpartition("' < /dev/null")[0] or rest
    return (" ".join(command.split()) if found else "tool shell")[:kept]
