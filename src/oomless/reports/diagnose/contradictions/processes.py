"""One pid with two figures, or with two roles. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from oomless.reports.diagnose.amounts import differ, values
from oomless.reports.diagnose.contradictions.found import Contradiction
from oomless.reports.diagnose.facts import Amount, Case, CaseProcess, Mention

#: More mentions of one pid are not compared.
_MOST = 300


def two_figures(case: Case) -> Iterator[Contradiction]:
    """The memory of one process, at what the text does not say are different moments."""
    table = {one.pid: one for one in case.processes if one.source.startswith("RSS")}
    for pid, group in _by_pid(case).items():
        found = [(one, one.amount) for one in group[:_MOST] if one.amount is not None]
        against = [
            (one, amount)
            for one, amount in found
            if any(_same_moment(one, other) and differ(amount, figure) for other, figure in found)
        ]
        if against:
            yield Contradiction(
                rule="two-figures",
                about=f"the memory of PID {pid}",
                values=values([amount for _, amount in against]),
                lines=tuple(sorted({one.line for one, _ in against})),
            )
        else:
            yield from _against_table(table.get(pid), found)


def _against_table(process: CaseProcess | None, found: list[tuple[Mention, Amount]]) -> Iterator[Contradiction]:
    """MB may be MiB in prose, and tables are in KiB: what that explains is no contradiction."""
    if process is None or process.footprint_bytes is None:
        return
    size = process.footprint_bytes
    for one, amount in found:
        if not one.moment and not (amount.low * 0.92 <= size <= amount.high * 1.08):
            yield Contradiction(
                rule="two-figures",
                about=f"the memory of PID {process.pid}, in words and in the table",
                values=(amount.text, f"{size / 1e6:.0f} MB"),
                lines=(process.figure_line or process.lines[0], one.line),
            )
            return


def two_roles(case: Case) -> Iterator[Contradiction]:
    """A process is one thing; a line that uses both words explains, and does not count."""
    for pid, group in _by_pid(case).items():
        plain = [one for one in group if len(one.roles) == 1]
        roles = tuple(dict.fromkeys(one.roles[0] for one in plain))
        if len(roles) > 1:
            yield Contradiction(
                rule="two-roles",
                about=f"what PID {pid} is",
                values=roles,
                lines=tuple(sorted({one.line for one in plain})),
            )


def _by_pid(case: Case) -> dict[int, list[Mention]]:
    found: dict[int, list[Mention]] = {}
    for one in case.mentions:
        found.setdefault(one.pid, []).append(one)
    return found


def _same_moment(one: Mention, other: Mention) -> bool:
    return one.moment == other.moment
