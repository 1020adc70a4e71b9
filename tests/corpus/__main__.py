"""Scores the whole corpus: prints the figures, and writes them to ``bench/results/corpus.json`` and, with ``--docs``,
into ``docs/corpus.md``."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
from rich.console import Console

from .score import Judged, Scores, scores
from .table import into, markdown, parts, terminal
from .whole import judged

ROOT = Path(__file__).parents[2]
RESULT, PAGE = ROOT / "bench" / "results" / "corpus.json", ROOT / "docs" / "corpus.md"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.corpus", description="Score the labelled corpus.")
    options.add_argument("--docs", action="store_true", help="also write the figures into docs/corpus.md")
    told = options.parse_args()
    found = scores(judged())
    tell(found)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if told.docs:
        PAGE.write_text(into(PAGE.read_text(encoding="utf-8"), markdown(found)), encoding="utf-8")


def tell(found: Scores) -> None:
    out = Console()
    for title, score in parts(found):
        if score.processes:
            out.print(terminal(title, score))
    for title, some in (("wrong", found.whole.wrong), ("unknown", found.whole.unknown)):
        for one in some:
            out.print(_line(title, one), markup=False, highlight=False, soft_wrap=True)
    wrong = len(found.whole.wrong_proposals)
    out.print(f"reap would propose {found.whole.proposals}, {wrong} of them wrongly", highlight=False)


def _line(title: str, one: Judged) -> str:
    return (
        f"{title}: {one.scene} {one.pid} is {one.label}, said {one.verdict} ({one.confidence:.2f}): {one.command:.80}"
    )


if __name__ == "__main__":
    main()
