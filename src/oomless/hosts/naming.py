"""Short names of a host's tool shells and servers, made of the line that they run. Standard library only."""

from __future__ import annotations

#: Characters of a name that are shown.
NAME_KEPT = 60


def short_name(kind: str, line: str, kept: int = NAME_KEPT) -> str:
    """At most ``kept`` characters. A tool shell's own command stands in an ``eval`` behind the preliminaries."""
    if kind == "server":
        return " ".join(line.split())[:kept]
    _, evaluated, rest = line.partition("eval '")
    command = rest.rpartition("' < /dev/null")[0] or rest
    return (" ".join(command.split()) if evaluated else "tool shell")[:kept]
