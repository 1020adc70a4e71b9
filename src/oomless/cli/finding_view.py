"""How findings are printed: what is wrong, what it stands on, and what to do, each in a line."""

from __future__ import annotations

from collections.abc import Iterable

from oomless.census.findings import Finding
from oomless.cli.output import print_line, printable


def show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print_line(printable(f"{finding.severity}: {finding.title}"))
        for line in (*finding.evidence, f"what to do: {finding.action}"):
            print_line(f"  {printable(line)}")
