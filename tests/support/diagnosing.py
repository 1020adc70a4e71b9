"""Reports for the tests of ``diagnose``: the catalog without a user's own, and cases and reports of texts."""

from __future__ import annotations

from pathlib import Path

from oomless import catalog, listing
from oomless.catalog import Catalog
from oomless.reports.diagnose import report, text
from oomless.reports.diagnose.claims import Claim
from oomless.reports.diagnose.contradictions import Contradiction, find_contradictions
from oomless.reports.diagnose.facts import Case

DATA = Path(__file__).parents[1] / "data"
CATALOG = Catalog(catalog.load("/nonexistent/catalog.toml").programs)


def data(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def case(said: str) -> Case:
    return text.build_case(said, listing.parse_listing(said), CATALOG)


def against(said: str, rule: str = "") -> list[Contradiction]:
    return [one for one in find_contradictions(case(said)) if rule in ("", one.rule)]


def reported(said: str) -> report.DiagnosisReport:
    return report.build_report(case(said), "a text")


def claim(found: report.DiagnosisReport, words: str) -> Claim:
    return next(one for one in found.claims if one.text == words)


def line_of(said: str, words: str) -> int:
    """The number of the one line that holds these words."""
    found = [number for number, line in enumerate(said.splitlines(), 1) if words in line]
    assert len(found) == 1, (words, found)
    return found[0]
