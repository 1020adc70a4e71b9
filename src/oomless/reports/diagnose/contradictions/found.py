"""What a contradiction is."""

from __future__ import annotations

import msgspec


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """``values`` as they were written, ``lines`` where; ``about`` says in words what disagrees."""

    rule: str
    about: str
    values: tuple[str, ...]
    lines: tuple[int, ...]
