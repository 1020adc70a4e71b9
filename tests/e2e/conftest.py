"""Whole commands: what several of these modules start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from puppets import Stage


@pytest.fixture
def stage(house: Path) -> Iterator[Stage]:
    made = Stage(house)
    yield made
    made.close()
