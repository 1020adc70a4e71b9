"""The corpus' figures as text: Markdown for ``docs/corpus.md``, tables for a terminal. The figures: ``score.py``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table

from .score import Judged, Score, Scores

BEGIN, END = "<!-- figures: made by `make corpus ARGS=--docs` -->", "<!-- end of figures -->"
HEADINGS = ("verdict", "labelled so", "found", "said wrongly", "missed", "precision", "recall")
#: Of a long command beginning and end are shown: what runs is mostly at the end of a path.
_WIDTH, _HEAD = 60, 16


def terminal(title: str, score: Score) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"{title}: {_size(score)}", title_justify="left", pad_edge=False)
    table.add_column(HEADINGS[0])
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right")
    for row in _rows(score):
        table.add_row(*row)
    return table


def markdown(scores: Scores) -> str:
    """What stands between the marks of the page."""
    lines = [BEGIN]
    for title, score in parts(scores):
        lines += ["", f"### {title}: {_size(score)}", ""]
        if score.processes:
            lines += [_row(HEADINGS), _row(("---", *["---:"] * (len(HEADINGS) - 1)))]
            lines += [_row(row) for row in _rows(score)]
    whole = scores.whole
    lines += ["", f"`oomless reap` would propose {whole.proposals} of them, {len(whole.wrong_proposals)} wrongly."]
    lines += ["", "### Wrong verdicts", "", *_listed(whole.wrong)]
    lines += ["", "### Unknown, though there is a truth", "", *_listed(whole.unknown)]
    return "\n".join((*lines, "", END))


def parts(scores: Scores) -> Iterator[tuple[str, Score]]:
    yield "Held out, recorded scenes", scores.held_out_recorded
    yield "Held out, listings", scores.held_out_listings
    yield "Recorded scenes", scores.recorded
    yield "Listings", scores.listings
    yield "All", scores.whole


def into(page: str, figures: str) -> str:
    """The page with these figures in the place of those that it has. Raises ValueError if the marks are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the figures")
    return f"{before}{figures}{after}"


def _size(score: Score) -> str:
    return f"{_count(score.scenes, 'scene')}, {_count(score.processes, 'process', 'es')}, {score.right} right"


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{plural if number != 1 else ''}"


def _rows(score: Score) -> Iterator[tuple[str, ...]]:
    for one in score.tallies:
        if one.n or one.false_positives:
            counts = (one.n, one.true_positives, one.false_positives, one.misses)
            yield one.verdict, *map(str, counts), share(one.precision), share(one.recall)


def share(value: float | None) -> str:
    """Rounded down: what is not all is not called all."""
    return "–" if value is None else f"{int(value * 1000) / 10:.1f} %"


def _listed(some: Iterable[Judged]) -> list[str]:
    found = [
        _row((one.scene, str(one.pid), f"`{_short(one.command)}`", one.label, one.verdict, one.why)) for one in some
    ]
    heads = [_row(("scene", "pid", "process", "truth", "verdict", "why that is the truth")), _row(["---"] * 6)]
    return [*heads, *found] if found else ["None."]


def _short(text: str) -> str:
    text = text.replace("`", "'").replace("|", "\\|") or "?"
    return text if len(text) <= _WIDTH else f"{text[:_HEAD]}…{text[_HEAD + 1 - _WIDTH :]}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
