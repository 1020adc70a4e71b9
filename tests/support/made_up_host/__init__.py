"""A second host, made up: other marks than Claude Code's, other words in its hooks, no shell prefix, and hooks that
are commands only."""

from __future__ import annotations

from oomless import hosts

PACKAGE = "made_up_host"


def add() -> None:
    """To what oomless knows, in this process."""
    if PACKAGE not in hosts.PACKAGES:
        hosts.PACKAGES = (*hosts.PACKAGES, PACKAGE)
