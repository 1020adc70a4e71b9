"""How the looking commands print findings: what is wrong, what it stands on, and what to do, each in a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from oomless.census.findings import Finding
from oomless.cli.output import printable

if TYPE_CHECKING:
    from rich.console import Console


def show(out: Console, findings: Iterable[Finding]) -> None:
    for finding in findings:
        out.print(printable(f"{finding.severity}: {finding.title}"), soft_wrap=True)
        for line in (*finding.evidence, f"what to do: {finding.action}"):
            out.print(printable(f"  {line}"), soft_wrap=True)
