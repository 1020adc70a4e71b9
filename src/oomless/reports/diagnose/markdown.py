"""The report as Markdown. What is of the case is escaped: a command line is text, and makes no tag, image or
table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from oomless.reports.diagnose.claims import Claim
from oomless.reports.diagnose.report import DiagnosisReport, Metric, TreeNode
from oomless.units import format_size, shorten

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~<>&$])")
#: At the beginning of an item these would begin another one, or a heading.
_FIRST = re.compile(r"^(?:[#+=-]|\d{1,9}(?=[.)](?:\s|$)))")
_ADDRESS = re.compile(r"\b(https?|ftp|www)(?=[:.])", re.IGNORECASE)
#: Of a long command line people need the beginning; JSON has all of it.
LONGEST = 120
_BLANK = re.compile(r"\s+")


def render_markdown(report: DiagnosisReport) -> str:
    return "\n".join(_report_lines(report)) + "\n"


def escape_markdown(text: str) -> str:
    """One line in which nothing has a meaning; what cannot be printed is shown as its code."""
    plain = "".join(_printable_character(c) for c in text)
    escaped = _SPECIAL.sub(r"\\\1", _BLANK.sub(" ", plain).strip())
    first = _FIRST.match(escaped)
    if first is not None:
        at = first.end() if first[0].isdigit() else 0
        escaped = f"{escaped[:at]}\\{escaped[at:]}"
    return _ADDRESS.sub("\\1\u200b", escaped)


def _printable_character(c: str) -> str:
    if c.isprintable():
        return c
    return " " if c.isspace() else c.encode("unicode_escape", "surrogatepass").decode()


def _report_lines(report: DiagnosisReport) -> Iterator[str]:
    yield "# Diagnosis"
    yield ""
    yield f"Source: {escape_markdown(report.source)}."
    yield from _format_list("Summary", report.summary)
    yield from _format_section("Timeline", (_format_event(row.when, row.text, row.source) for row in report.timeline))
    yield from _format_section(
        "Process tree", (_format_node(node, place_preposition(report)) for node in report.tree)
    )
    yield from _format_table(
        "Groups",
        ("kind", "name", "processes", "memory", "source"),
        (
            (row.kind, row.name, str(row.processes), format_amount(row.footprint_bytes), row.source)
            for row in report.groups
        ),
    )
    for title, rows in (
        ("Findings", [(f"{row.severity}: {row.title}", row.evidence, row.action) for row in report.findings]),
        *(
            (title, [(f"{c.verdict}: {c.text}", c.evidence, "") for c in group])
            for title, group in claims_by_topic(report)
        ),
    ):
        yield from _format_nested(title, rows)
    yield from _format_section(
        "Contradictions",
        (
            f"- {escape_markdown(row.about)}: {escape_markdown(' / '.join(row.values))}"
            f" (lines {', '.join(map(str, row.lines))})"
            for row in report.contradictions
        ),
    )
    yield from _format_list("What to do now", report.now)
    yield from _format_list("What to do for good", report.for_good)
    yield from _format_table(
        "Metrics", ("what", "value", "source"), ((row.name, format_value(row), row.source) for row in report.metrics)
    )
    yield from _format_list("Not read", report.unreadable)


def _format_section(title: str, lines: Iterable[str]) -> Iterator[str]:
    body = list(lines)
    if body:
        yield from ("", f"## {title}", "", *body)


def _format_list(title: str, texts: Iterable[str]) -> Iterator[str]:
    yield from _format_section(title, (f"- {escape_markdown(text)}" for text in texts))


def _format_nested(title: str, rows: Iterable[tuple[str, tuple[str, ...], str]]) -> Iterator[str]:
    def lines() -> Iterator[str]:
        for head, evidence, action in rows:
            yield f"- {escape_markdown(head)}"
            yield from (f"  - {escape_markdown(line)}" for line in evidence)
            if action:
                yield f"  - what to do: {escape_markdown(action)}"

    yield from _format_section(title, lines())


def _format_table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    body = [f"| {' | '.join(escape_markdown(cell) for cell in row)} |" for row in rows]
    if body:
        yield from _format_section(title, (f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body))


def _format_event(when: str, text: str, source: str) -> str:
    return f"- {escape_markdown(when)}{': ' if when else ''}{escape_markdown(text)} ({escape_markdown(source)})"


def _format_node(node: TreeNode, at: str) -> str:
    known = f", {format_size(node.footprint_bytes)}" if node.footprint_bytes is not None else ""
    source = f" ({escape_markdown(node.source)})" if node.source else ""
    place = f" {at} {escape_markdown(node.place)}" if node.place else ""
    what = f"{known}{source}{verdict_words(node)}: {escape_markdown(shorten(node.what, LONGEST))}"
    return f"{'  ' * node.depth}- {node.pid} {escape_markdown(node.kind)}{place}{what}"


def claims_by_topic(report: DiagnosisReport) -> list[tuple[str, list[Claim]]]:
    """On the cause, and on totals that the text states."""
    sections = (("Claims", "cause"), ("Stated totals", "total"))
    return [(title, [claim for claim in report.claims if claim.about == about]) for title, about in sections]


def place_preposition(report: DiagnosisReport) -> str:
    """Places are terminals in a text, sessions on this machine."""
    return "on" if report.origin == "text" else "of"


def verdict_words(node: TreeNode) -> str:
    """The verdict, if it says more than the owner."""
    return "" if node.verdict in ("owned", "protected", "unknown") else f", {node.verdict}"


def format_amount(known: int | None) -> str:
    return "not given" if known is None else format_size(known)


def format_value(metric: Metric) -> str:
    return format_size(metric.value) if metric.unit == "bytes" else str(metric.value)
