"""Sizes and durations, as people write them and as they are shown."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomless.errors import UsageError
from oomless.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1048576", 1048576),
        ("512MB", 512 * 10**6),
        ("512MiB", 512 * 2**20),
        ("2g", 2 * 10**9),
        (" 1.5 GiB ", 3 * 2**29),
        ("300k", 300_000),
        ("4KiB", 4096),
        ("1TB", 10**12),
        ("7b", 7),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "MB", "-1MB", "+1", "1e9", "1,5GB", "1.2.3", "12 parsecs", "0", "0.1b", "nan", "inf", "²", "9" * 400],
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text, "--memory")
    assert "--memory" in caught.value.what
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("30", 30.0), ("30s", 30.0), ("1.5h", 5400.0), ("250ms", 0.25), ("2d", 172800.0), ("9m", 540.0)],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1e3", "1h30m", "soon", "nan", "1M B", "9" * 400])
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text, "--wait")
    assert "--wait" in caught.value.what


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "2 kB"),
        (812 * 10**6, "812 MB"),
        (999_700_000, "1.00 GB"),
        (1.25e9, "1.25 GB"),
    ],
)
def test_format_size(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (42, "42 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(1, 2**53), st.sampled_from(["", "B", "kB", "MB", "MiB", "GiB"]))
def test_whole_numbers_are_exact(number: int, unit: str) -> None:
    """A count of bytes that goes through text must come back as it was."""
    if unit in ("", "B"):
        assert parse_size(f"{number}{unit}") == number
    else:
        assert parse_size(f"{number}{unit}") == pytest.approx(number * parse_size(f"1{unit}"), rel=1e-12)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_usage_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(UsageError):
            assert parse(text) >= 0
