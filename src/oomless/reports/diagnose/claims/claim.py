"""What a claim is."""

from __future__ import annotations

from typing import Literal

import msgspec

Judgement = Literal["supported", "refuted", "unknown"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """``evidence`` names the lines of the text, or pids, that it stands on. ``about``: what the cause is, or a total
    that the text states."""

    text: str
    verdict: Judgement
    evidence: tuple[str, ...]
    about: Literal["cause", "total"] = "cause"
