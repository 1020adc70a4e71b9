"""The report as one HTML page that loads nothing: its style is within, there is no script, and everything of the case
is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape as _escape

from oomless.reports.diagnose.markdown import (
    LONGEST,
    claims_by_topic,
    format_amount,
    format_value,
    place_preposition,
    verdict_words,
)
from oomless.reports.diagnose.report import DiagnosisReport, TreeNode
from oomless.units import format_size, shorten

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; } li { overflow-wrap: anywhere; }
.refuted, .critical { color: #a00; } .supported { color: #060; } .unknown, .source { color: #666; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; }
.refuted, .critical { color: #f88; } .supported { color: #8d8; } .unknown, .source { color: #aaa; } }
"""
#: Nothing may be loaded even if an escape were wrong.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(report: DiagnosisReport) -> str:
    return "\n".join(_page_lines(report)) + "\n"


def escape_html(text: str) -> str:
    """What cannot be printed is shown as its code."""
    plain = (
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    return _escape("".join(plain), quote=True)


def _page_lines(report: DiagnosisReport) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>Diagnosis</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>Diagnosis</h1><p>Source: {escape_html(report.source)}.</p>"
    yield from _format_list("Summary", report.summary)
    yield from _format_table(
        "Timeline", ("when", "what", "source"), ((row.when, row.text, row.source) for row in report.timeline)
    )
    yield from _format_tree(report)
    yield from _format_table(
        "Groups",
        ("kind", "name", "processes", "memory", "source"),
        (
            (row.kind, row.name, str(row.processes), format_amount(row.footprint_bytes), row.source)
            for row in report.groups
        ),
    )
    yield from _format_findings(report)
    for title, group in claims_by_topic(report):
        yield from _format_section(title, "ul", (_format_claim(row.verdict, row.text, row.evidence) for row in group))
    yield from _format_table(
        "Contradictions",
        ("about", "values", "lines"),
        ((row.about, " / ".join(row.values), ", ".join(map(str, row.lines))) for row in report.contradictions),
    )
    yield from _format_list("What to do now", report.now)
    yield from _format_list("What to do for good", report.for_good)
    yield from _format_table(
        "Metrics", ("what", "value", "source"), ((row.name, format_value(row), row.source) for row in report.metrics)
    )
    yield from _format_list("Not read", report.unreadable)
    yield "</body></html>"


def _format_section(title: str, tag: str, parts: Iterable[str]) -> Iterator[str]:
    lines = list(parts)
    if lines:
        yield from (f"<h2>{title}</h2>", f"<{tag}>", *lines, f"</{tag}>")


def _format_list(title: str, texts: Iterable[str]) -> Iterator[str]:
    yield from _format_section(title, "ul", (f"<li>{escape_html(text)}</li>" for text in texts))


def _format_table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    body = ["".join(("<tr>", *(f"<td>{escape_html(cell)}</td>" for cell in row), "</tr>")) for row in rows]
    if body:
        first = "".join(("<tr>", *(f"<th>{name}</th>" for name in head), "</tr>"))
        yield from _format_section(title, "table", (first, *body))


def _format_tree(report: DiagnosisReport) -> Iterator[str]:
    yield from _format_section(
        "Process tree", "pre", (_format_node(node, place_preposition(report)) for node in report.tree)
    )


def _format_node(node: TreeNode, at: str) -> str:
    known = f" {format_size(node.footprint_bytes)}" if node.footprint_bytes is not None else ""
    source = f' <span class="source">({escape_html(node.source)})</span>' if node.source else ""
    place = f" {at} {escape_html(node.place)}" if node.place else ""
    what = f"{known}{source}{escape_html(verdict_words(node))}: {escape_html(shorten(node.what, LONGEST))}"
    return f"{'  ' * node.depth}{node.pid} {escape_html(node.kind)}{place}{what}"


def _format_findings(report: DiagnosisReport) -> Iterator[str]:
    yield from _format_section(
        "Findings",
        "ul",
        (_format_claim(f.severity, f.title, (*f.evidence, f"what to do: {f.action}")) for f in report.findings),
    )


def _format_claim(verdict: str, text: str, evidence: Iterable[str]) -> str:
    inner = "".join(f"<li>{escape_html(line)}</li>" for line in evidence)
    return (
        f'<li><b class="{escape_html(verdict)}">{escape_html(verdict)}</b>: {escape_html(text)}<ul>{inner}</ul></li>'
    )
