"""Amounts of memory as people write them: ``~635 MB``, ``400-600 MB``, ``5,500+ MB``, ``1.2 GB``. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from oomless.reports.diagnose.facts import Amount

#: Bounded, so that a line of digits costs no more than its length.
_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,12})(?:\.\d{1,3})?"
_UNIT = r"(?:[KMGT]i?B)"
_AMOUNT = re.compile(
    rf"(?P<about>~\s?|≈\s?|\b(?:about|around|roughly|approximately|some|nearly|almost)\s+)?(?<![\w.,])\+?"
    rf"(?P<low>{_NUMBER})\s?{_UNIT}?(?:\s?(?:-|–|—|\bto\b)\s?~?(?P<high>{_NUMBER}))?(?P<more>\+)?\s?(?P<unit>{_UNIT})\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|never|instead of|rather than)\s+(?:the\s+|a\s+|just\s+|only\s+)?$", re.IGNORECASE)
_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
#: Figures that are said to be exact may have been rounded, those that are not may be off by this share.
EXACT, ABOUT = 0.005, 0.15


class AmountInText(NamedTuple):
    """``denied``: the text says that it is not so much."""

    amount: Amount
    start: int
    end: int
    denied: bool


def find_amounts(text: str) -> list[AmountInText]:
    return [_read_amount(match, text) for match in _AMOUNT.finditer(text)]


def _read_amount(match: re.Match[str], text: str) -> AmountInText:
    factor = _FACTORS[match["unit"][:-1].lower()]
    low = int(float(match["low"].replace(",", "")) * factor)
    high = int(float(match["high"].replace(",", "")) * factor) if match["high"] else low
    amount = Amount(
        low=min(low, high),
        high=max(low, high),
        about=bool(match["about"] or match["more"]),
        text=" ".join(match[0].split()).removeprefix("+"),
    )
    return AmountInText(amount, match.start(), match.end(), _DENIED.search(text[: match.start()][-40:]) is not None)


def amounts_differ(amount: Amount, other: Amount) -> bool:
    """Whether both cannot be right, with what each leaves open."""
    slack = ABOUT if amount.about or other.about else EXACT
    return amount.low > other.high * (1 + slack) or other.low > amount.high * (1 + slack)


def distinct_texts(find_amounts: list[Amount] | tuple[Amount, ...]) -> tuple[str, ...]:
    """As written, each once, in order."""
    return tuple(dict.fromkeys(amount.text for amount in find_amounts))
