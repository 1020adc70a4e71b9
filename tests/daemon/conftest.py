"""Fixtures that several tests of the daemon share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fake_claude
from descents import FakeClaude


@pytest.fixture
def fake(house: Path) -> Iterator[Callable[..., FakeClaude]]:
    """A session whose command line is that of the host, with no hook of ours (unless said)."""
    made: list[FakeClaude] = []
    script = house / "claude"
    script.symlink_to(fake_claude.__file__)

    def make(session: str, *kinds: str, hook: str = "true") -> FakeClaude:
        made.append(FakeClaude(house, session, kinds, str(script), hook))
        return made[-1]

    yield make
    for one in made:
        one.clean()
