"""How well verdicts agree with the labels: precision and recall of each verdict, wrong verdicts, and what ``reap``
proposes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec

from oomless.census.attribution import Verdict

VERDICTS: tuple[str, ...] = get_args(Verdict)
#: Of what the census does not list.
UNLISTED = "unlisted"
#: Verdicts for which a process may be killed without asking.
KILLABLE = frozenset({"orphan", "superseded"})


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled process, and what became of it. ``recorded``: read from a machine, not from a listing;
    ``held_out``: in a scene that is younger than the rules; ``why``: the label's reason; ``proposed``: ``reap`` would
    kill it."""

    scene: str
    recorded: bool
    held_out: bool
    pid: int
    command: str
    label: str
    why: str
    verdict: str
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()
    proposed: bool = False

    @property
    def right(self) -> bool:
        """An unowned process need not be listed."""
        return self.verdict == self.label or (self.label, self.verdict) == ("unknown", UNLISTED)

    @property
    def said(self) -> str:
        """The verdict, where silence is as good as ``unknown``."""
        return "unknown" if self.verdict == UNLISTED else self.verdict

    @property
    def rightly_proposed(self) -> bool:
        return self.proposed and self.label in KILLABLE


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """``n`` processes have the label; precision and recall are None where there is nothing to divide by."""

    verdict: str
    n: int
    true_positives: int
    false_positives: int
    misses: int
    precision: float | None
    recall: float | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """``wrong``: another verdict than the label; ``unknown``: no verdict, or none but unknown, where there is one."""

    scenes: int
    processes: int
    right: int
    tallies: tuple[Tally, ...]
    wrong: tuple[Judged, ...]
    unknown: tuple[Judged, ...]
    proposals: int
    wrong_proposals: tuple[Judged, ...]

    def recall_of(self, verdicts: Iterable[str]) -> float | None:
        """Of several verdicts together: how many of those that are one of them are found to be just that."""
        wanted = frozenset(verdicts)
        some = [tally for tally in self.tallies if tally.verdict in wanted]
        return _share(sum(tally.true_positives for tally in some), sum(tally.n for tally in some))


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The same figures of all, of what is held out, and of recorded scenes and listings apart, also of those that are
    held out."""

    schema: str = "oomless.corpus-score/1"
    whole: Score
    held_out: Score
    held_out_recorded: Score
    held_out_listings: Score
    recorded: Score
    listings: Score


def scores(judged: Sequence[Judged]) -> Scores:
    return Scores(
        whole=score(judged),
        held_out=score([one for one in judged if one.held_out]),
        held_out_recorded=score([one for one in judged if one.held_out and one.recorded]),
        held_out_listings=score([one for one in judged if one.held_out and not one.recorded]),
        recorded=score([one for one in judged if one.recorded]),
        listings=score([one for one in judged if not one.recorded]),
    )


def score(judged: Sequence[Judged]) -> Score:
    amiss = [one for one in judged if not one.right]
    proposed = [one for one in judged if one.proposed]
    return Score(
        scenes=len({one.scene for one in judged}),
        processes=len(judged),
        right=len(judged) - len(amiss),
        tallies=tuple(_tally(verdict, judged) for verdict in VERDICTS),
        wrong=tuple(one for one in amiss if one.said != "unknown"),
        unknown=tuple(one for one in amiss if one.said == "unknown"),
        proposals=len(proposed),
        wrong_proposals=tuple(one for one in proposed if not one.rightly_proposed),
    )


def _tally(verdict: str, judged: Iterable[Judged]) -> Tally:
    pairs = [(one.label == verdict, one.said == verdict) for one in judged]
    both, said_only, label_only = (pairs.count(pair) for pair in ((True, True), (False, True), (True, False)))
    return Tally(
        verdict=verdict,
        n=both + label_only,
        true_positives=both,
        false_positives=said_only,
        misses=label_only,
        precision=_share(both, both + said_only),
        recall=_share(both, both + label_only),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
