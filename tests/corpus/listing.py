"""A saved listing with labels beside it, and its replay: what ``oomless scan --from`` makes of it.

``NAME.labels`` (TOML) names the truth about every process of ``NAME.txt``, or of the listing that it refers to. All
are written for the corpus, in the forms that public bug reports have; what was rebuilt after a report says so in its
first line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from oomless.census.attribution import Verdict
from oomless.census.listing import ListingCensus, attribute_listing
from oomless.reports.listing import read_listing

from .scene import Label, known_programs

LISTINGS = Path(__file__).parent / "listings"


class Same(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Processes of which the same is true, for the same reason."""

    verdict: Verdict
    why: str
    pids: tuple[int, ...]


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``form``: what printed it; ``listing``: another file than ``NAME.txt``, from this one's folder; ``rules``: as
    of a recorded scene, "" if the rules were made with it in sight."""

    title: str
    form: str
    listing: str = ""
    rules: str = ""
    label: tuple[Same, ...]


class ListingScene(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str
    form: str
    rules: str
    file: Path
    labels: dict[int, Label]


def replay(scene: ListingScene) -> ListingCensus:
    return attribute_listing(read_listing(str(scene.file)), known_programs())


def load(path: Path) -> ListingScene:
    """From a file of labels; raises ValueError, naming it, if it is none, contradicts itself or leaves one out.
    Whoever the text names may have a label, also where the reading of it misses that."""
    try:
        told = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Labels)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    file = path.parent / (told.listing or f"{path.stem}.txt")
    pairs = [(pid, Label(verdict=same.verdict, why=same.why)) for same in told.label for pid in same.pids]
    scene = ListingScene(
        name=path.stem, title=told.title, form=told.form, rules=told.rules, file=file, labels=dict(pairs)
    )
    mistakes = list(_problems(scene, [pid for pid, _ in pairs]))
    if mistakes:
        raise ValueError(f"{path.name}: {'; '.join(mistakes)}")
    return scene


def listings(folder: Path = LISTINGS) -> tuple[ListingScene, ...]:
    return tuple(load(path) for path in sorted(folder.glob("*.labels")))


def _problems(scene: ListingScene, pids: list[int]) -> Iterator[str]:
    if len(pids) > len(scene.labels):
        yield f"{sorted({pid for pid in pids if pids.count(pid) > 1})} have two labels"
    rows, text = replay(scene).rows, scene.file.read_text(encoding="utf-8")
    if rows.keys() - scene.labels.keys():
        yield f"{sorted(rows.keys() - scene.labels.keys())} have no label"
    absent = [pid for pid in scene.labels if not re.search(rf"\b{pid}\b", text)]
    if absent:
        yield f"{absent} are not in the listing"
    if not all((scene.title.strip(), scene.form.strip(), *(one.why.strip() for one in scene.labels.values()))):
        yield "a text is empty"
