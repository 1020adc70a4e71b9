"""Scores the whole corpus: prints the figures, and writes them to ``bench/results/corpus.json`` and, with ``--docs``,
into ``docs/corpus.md``. ``--same-rules`` and ``--new-rules``: see ``rules.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from rich.console import Console

from . import rules
from .scene import scenes
from .score import Judged, Scores, scores
from .table import into, markdown, parts, terminal
from .whole import digests, judged

ROOT = Path(__file__).parents[2]
RESULT, PAGE = ROOT / "bench" / "results" / "corpus.json", ROOT / "docs" / "corpus.md"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.corpus", description="Score the labelled corpus.")
    options.add_argument("--docs", action="store_true", help="also write the figures into docs/corpus.md")
    declare = options.add_mutually_exclusive_group()
    declare.add_argument(
        "--same-rules", action="store_true", help="declare that today's sources give the verdicts of before"
    )
    declare.add_argument(
        "--new-rules", action="store_true", help="declare today's verdicts; held-out scenes are to be recorded anew"
    )
    asked = options.parse_args()
    if asked.same_rules or asked.new_rules:
        sys.exit(redeclare(accept=asked.new_rules))
    found = scores(judged())
    tell(found)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if asked.docs:
        PAGE.write_text(into(PAGE.read_text(encoding="utf-8"), markdown(found)), encoding="utf-8")


def redeclare(*, accept: bool) -> int:
    """Writes ``rules.json``; the exit status. ``accept``: also where verdicts have changed, which ends what is held
    out of that kind."""
    before, verdicts = rules.declared(), digests()
    changed = rules.changed(before, verdicts)
    if changed and not accept:
        print(f"verdicts have changed, so these are other rules: {', '.join(changed)}", file=sys.stderr)
        print("hint: --new-rules declares them; the scenes that are held out end with that", file=sys.stderr)
        return 1
    sources = rules.sources_hash()
    recorded = {one.name for one in scenes()}
    names: dict[bool, str] = {True: before.scenes, False: before.listings}
    names |= {one in recorded: sources for one in changed}
    rules.declare(
        rules.Declared(sources=sources, scenes=names[True], listings=names[False], verdicts=verdicts), rules.DECLARED
    )
    print(f"{len(verdicts)} scenes, {len(changed)} of them with other verdicts than before")
    return 0


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
