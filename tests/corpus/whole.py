"""The whole corpus: every labelled process of every scene, with the verdict that the census gives it now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oomless.census.attribution import Attributed
from oomless.listing.merge import MergedRow
from oomless.redact import command_line
from oomless.reports.listing import shown_command

from . import listing, rules, scene
from .score import UNLISTED, Judged


def judged(
    recorded: Iterable[scene.Scene] | None = None, listings: Iterable[listing.ListingScene] | None = None
) -> tuple[Judged, ...]:
    """Of these scenes, or of all that there are."""
    recorded = scene.scenes() if recorded is None else recorded
    listings = listing.listings() if listings is None else listings
    return (*_of_recorded(recorded), *_of_listings(listings))


def _of_recorded(scenes: Iterable[scene.Scene]) -> Iterator[Judged]:
    for one in scenes:
        replayed = scene.replay(one)
        for row in one.processes:
            found = replayed.found.get(row.process.pid)
            yield Judged(
                scene=one.name,
                recorded=True,
                held_out=one.rules == rules.name("scenes"),
                pid=row.process.pid,
                command=command_line(row.process.command),
                label=row.label.verdict,
                why=row.label.why,
                verdict=found.verdict if found else UNLISTED,
                confidence=found.confidence if found else 0.0,
                evidence=found.evidence if found else (),
                proposed=row.process.pid in replayed.proposed,
            )


def _command(row: MergedRow | None) -> str:
    return shown_command(row) if row else "not read"


def _of_listings(scenes: Iterable[listing.ListingScene]) -> Iterator[Judged]:
    """From a listing nobody is ended; whether its verdicts alone would do for that is asked all the same."""
    for one in scenes:
        census = listing.replay(one)
        found = {row.process.pid: row for row in census.processes}
        proposed = scene.proposals(census.processes)
        for pid, label in sorted(one.labels.items()):
            said = found.get(pid)
            yield Judged(
                scene=one.name,
                recorded=False,
                held_out=one.rules == rules.name("listings"),
                pid=pid,
                command=_command(census.rows.get(pid)),
                label=label.verdict,
                why=label.why,
                verdict=said.verdict if said else UNLISTED,
                confidence=said.confidence if said else 0.0,
                evidence=said.evidence if said else (),
                proposed=pid in proposed,
            )


def digests() -> dict[str, str]:
    """By the name of a scene, what its verdicts are told apart by: of all that is listed, labelled or not."""
    found: dict[str, str] = {}
    for one in scene.scenes():
        replayed = scene.replay(one)
        found[one.name] = _digest(replayed.found.values(), replayed.proposed)
    for each in listing.listings():
        rows = listing.replay(each).processes
        found[each.name] = _digest(rows, scene.proposals(rows))
    return dict(sorted(found.items()))


def _digest(rows: Iterable[Attributed], proposed: frozenset[int]) -> str:
    return rules.digest((row.process.pid, row.verdict, row.confidence, row.process.pid in proposed) for row in rows)
