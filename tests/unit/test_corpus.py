"""The labelled corpus as a whole: its size, its labels, and how well the census judges it. That the scorer and the
files' formats do what they should: ``test_corpus_format.py``; that the scenes can be recorded again:
``test_corpus_redo.py``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from corpus import __main__ as command
from corpus import listing, rules, scene, table
from corpus.score import KILLABLE, Score, Scores, scores
from corpus.whole import digests, judged
from oomless.catalog import programs
from oomless.census import snapshot
from oomless.census.snapshot import MARKER
from oomless.hosts import mcp_configs, mcp_entries
from oomless.hosts.claude_code.facts import FACTS
from oomless.model import Footprint, Identity, MachineMemory, ProcessInfo
from oomless.paths import Paths
from oomless.platform.base import Platform, Standing
from oomless.processes.command import ParsedCommand, parse_command
from oomless.protocol.reap_views import PROVEN
from oomless.protocol.views import StatusView
from oomless.reports import look
from oomless.reports.reap import propose

assert sys.platform == "linux"

SCENES, PROCESSES, OF_EACH = 15, 300, 15
#: Of true orphans and superseded servers, as many are to be found.
FOUND = 0.95
MEMORY = MachineMemory(total_bytes=2**34, available_bytes=2**33)


@pytest.fixture(scope="module")
def found() -> Scores:
    return scores(judged())


# -- what there is ---------------------------------------------------------------------------------------------------


def test_it_is_large_enough(found: Scores) -> None:
    assert found.whole.scenes >= SCENES
    assert found.whole.processes >= PROCESSES
    assert {one.verdict: one.n for one in found.whole.tallies if one.n < OF_EACH} == {}


def test_a_third_and_more_is_recorded_from_real_runs(found: Scores) -> None:
    assert 3 * found.recorded.scenes >= found.whole.scenes
    assert 3 * found.recorded.processes >= found.whole.processes


def test_names_are_unique() -> None:
    names = Counter((*(one.name for one in scene.scenes()), *(one.name for one in listing.listings())))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_listing_has_labels() -> None:
    used = {one.file for one in listing.listings()}
    assert set(listing.LISTINGS.glob("*.txt")) <= used


def test_what_was_rebuilt_says_so() -> None:
    (incident,) = (one for one in listing.listings() if one.name == "incident")
    assert "rebuilt" in incident.form
    assert incident.file.read_text(encoding="utf-8").splitlines()[0].startswith("# Rebuilt")


def test_labels_do_not_contradict_each_other() -> None:
    """Who is only left has nobody below it that is in use, but who was spared."""
    wrong = []
    for name, parents, labels in families():
        for pid, parent in parents.items():
            above, own = labels.get(parent or 0), labels[pid]
            if above in KILLABLE and own not in (above, "detached"):
                wrong.append(f"{name}: {pid} is {own}, below {parent}, which is {above}")
    assert wrong == []


def families() -> list[tuple[str, dict[int, int | None], dict[int, str]]]:
    """Of each scene its name, each process's parent, and its label."""
    found: list[tuple[str, dict[int, int | None], dict[int, str]]] = []
    for recorded in scene.scenes():
        parents: dict[int, int | None] = {one.process.pid: one.process.ppid for one in recorded.processes}
        found.append((recorded.name, parents, {one.process.pid: one.label.verdict for one in recorded.processes}))
    for one in listing.listings():
        rows = listing.replay(one).rows
        above = {pid: row.listed.ppid for pid, row in rows.items()}
        found.append((one.name, above, {pid: label.verdict for pid, label in one.labels.items()}))
    return found


# -- what the census makes of it -------------------------------------------------------------------------------------


def test_every_proposed_process_is_left_over(found: Scores) -> None:
    assert [f"{one.scene} {one.pid} {one.label}: {one.command}" for one in found.whole.wrong_proposals] == []


def test_many_are_proposed(found: Scores) -> None:
    assert found.recorded.proposals >= 10 * OF_EACH


def test_a_listing_is_no_proof(found: Scores) -> None:
    assert found.listings.proposals == 0


def test_servers_are_proposed_as_a_whole() -> None:
    for one in scene.scenes():
        replayed = scene.replay(one)
        halves = Counter(
            (row.instance, pid in replayed.proposed)
            for pid, row in replayed.found.items()
            if row.instance is not None
        )
        assert [at for at, _ in halves if (at, True) in halves and (at, False) in halves] == [], one.name


@pytest.mark.parametrize("part", ["whole", "recorded"])
def test_true_orphans_and_superseded_servers_are_found(part: str, found: Scores) -> None:
    score: Score = getattr(found, part)
    missed = [one for one in score.wrong + score.unknown if one.label in KILLABLE]
    recall = score.recall_of(KILLABLE)
    assert recall is not None
    assert recall >= FOUND, [f"{one.scene} {one.pid} said {one.verdict}: {one.command}" for one in missed]


def test_nothing_live_is_called_an_orphan(found: Scores) -> None:
    amiss = [one for one in found.recorded.wrong if one.verdict in KILLABLE]
    assert [f"{one.scene} {one.pid} is {one.label}, said {one.verdict}" for one in amiss] == []


def test_no_command_line_is_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[tuple[str, ...]] = []

    def count(argv: tuple[str, ...]) -> ParsedCommand:
        parsed.append(argv)
        return parse_command(argv)

    for module in (snapshot, programs, mcp_entries):
        monkeypatch.setattr(module, "parse_command", count)
    for recorded in scene.scenes():
        parsed.clear()
        scene.replay(recorded)
        argvs = Counter(row.process.command for row in recorded.processes)
        settings = "\n".join(" ".join(server.command) for server in recorded.daemon.configured)
        again = (Counter(parsed) - argvs).keys() & argvs.keys()
        assert [argv for argv in again if " ".join(argv) not in settings] == [], recorded.name
        assert argvs.keys() <= set(parsed)
    for listed in listing.listings():
        parsed.clear()
        rows = listing.replay(listed).rows
        shells = [row for row in rows.values() if parse_command(row.argv).becomes != row.argv]
        assert len(rows) <= len(parsed) <= len(rows) + len(shells), listed.name


def test_verdicts_are_those_that_were_declared() -> None:
    before, now = rules.declared(), digests()
    assert rules.changed(before, now) == [], "say: python -m tests.corpus --new-rules; nothing is held out then"
    assert before.verdicts.keys() == now.keys(), rules.SAY


def test_sources_of_the_rules_are_declared() -> None:
    assert rules.declared().sources == rules.sources_hash(), f"a rule was edited; {rules.SAY}"


def test_the_page_has_these_figures(found: Scores) -> None:
    page = command.PAGE.read_text(encoding="utf-8")
    assert table.into(page, table.markdown(found)) == page, f"{rules.SAY}; then: make corpus ARGS=--docs"


def test_the_command_writes_the_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "corpus.md"
    page.write_text(f"before\n{table.BEGIN}\nof yesterday\n{table.END}\nafter\n")
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "RESULT", tmp_path / "results" / "corpus.json")
    monkeypatch.setattr(sys, "argv", ["corpus", "--docs"])
    command.main()
    assert '"schema": "oomless.corpus-score/1"' in command.RESULT.read_text()
    assert page.read_text().startswith(f"before\n{table.BEGIN}\n\n### Held out")
    assert page.read_text().endswith(f"{table.END}\nafter\n")
    assert "of yesterday" not in page.read_text()


# -- a replay is what scan would have said ---------------------------------------------------------------------------


class Replayed:
    """A platform that answers what was recorded."""

    name, starts_per_second = "linux", 100

    def __init__(self, recorded: scene.Scene) -> None:
        self._rows = {one.process.pid: one for one in recorded.processes}

    def processes(self) -> list[ProcessInfo]:
        return [one.process for one in self._rows.values()]

    def identity(self, pid: int) -> Identity | None:
        return Identity(boot_id="recorded", pid=pid, start=self._rows[pid].process.start)

    def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
        marks = self._rows[pid].marks
        found = {
            MARKER: marks.trees,
            FACTS.session_mark: marks.session,
            FACTS.pid_mark: str(marks.host_pid or ""),
            FACTS.project_mark: "/" if marks.project else "",
        }
        return {name: value for name, value in found.items() if value}

    def standing(self, pids: Mapping[int, int]) -> dict[int, Standing]:
        return {pid: self._rows[pid].standing for pid in pids}

    def footprint(self, pid: int) -> Footprint:
        return Footprint(bytes=self._rows[pid].process.rss_bytes, source="rss")

    def memory(self) -> MachineMemory:
        return MEMORY

    def memory_use(self) -> None:
        return None


def test_a_replay_is_what_scan_would_have_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in scene.scenes():
        monkeypatch.setattr(look, "daemon_facts", lambda status, facts=one.daemon: facts)
        monkeypatch.setattr(Paths, "install_id", lambda self, known=one.install_id: known)
        monkeypatch.setattr(mcp_configs.McpConfigReader, "read", lambda self, facts=one.daemon: facts.configured)
        scan = look.Scanner(cast(Platform, Replayed(one)), Paths()).scan(StatusView(pid=None, memory=MEMORY))
        replayed = scene.replay(one)
        assert scan.attributed == replayed.found, one.name
        assert {row.pid for row in propose(scan, PROVEN)[0]} == replayed.proposed, one.name
