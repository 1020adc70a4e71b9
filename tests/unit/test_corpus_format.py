"""The corpus' scorer and the formats of its files, on small scenes of their own: each mistake shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from corpus import __main__ as command
from corpus import listing, rules, scene, table
from corpus.scene import Host, Label, Recorded, Scene
from corpus.score import Judged, Score, scores
from corpus.whole import digests, judged
from oomless.census.attribution import Verdict
from oomless.census.snapshot import Marks
from oomless.model import ProcessInfo
from oomless.platform.base import Standing

SRC = Path(__file__).resolve().parents[2] / "src" / "oomless"
Redeclare = Callable[..., tuple[int, rules.Declared]]
SERVER = ("node", "/home/dev/node_modules/.bin/chrome-devtools-mcp")


def row(pid: int, ppid: int, command: tuple[str, ...], verdict: Verdict, *, stdin: str = "held") -> Recorded:
    process = ProcessInfo(
        pid=pid,
        ppid=ppid,
        pgid=1 if pid == 1 else 10,
        sid=1 if pid == 1 else 10,
        tty=0,
        start=pid,
        uid=1000,
        state="S",
        name=command[0],
        command=command,
        rss_bytes=4096,
    )
    standing = msgspec.convert({"stdin": stdin}, Standing)
    return Recorded(process=process, marks=Marks(), standing=standing, label=Label(verdict=verdict, why="made so"))


ROWS = (
    row(1, 0, ("init",), "unknown"),
    row(20, 1, SERVER, "orphan", stdin="gone"),
    row(30, 1, ("claude",), "owned"),
    row(31, 30, SERVER, "owned"),
)


def made(*rows: Recorded, name: str = "made", rules: str = "of before") -> Scene:
    host = Host(kernel="6.1", recorded="2026-11-24")
    return Scene(name=name, title="made", programs=("none",), host=host, rules=rules, processes=rows)


def relabelled(pid: int, verdict: Verdict) -> Scene:
    label = Label(verdict=verdict, why="changed")
    rows = (msgspec.structs.replace(one, label=label) if one.process.pid == pid else one for one in ROWS)
    return made(*rows)


def whole(one: Scene) -> Score:
    return scores(judged([one], [])).whole


# -- the scorer ------------------------------------------------------------------------------------------------------


def test_all_is_right() -> None:
    found = whole(made(*ROWS))
    assert (found.scenes, found.processes, found.right) == (1, 4, 4)
    assert (found.wrong, found.unknown, found.proposals, found.wrong_proposals) == ((), (), 1, ())
    assert {one.verdict: (one.n, one.precision, one.recall) for one in found.tallies if one.n} == {
        "owned": (2, 1.0, 1.0),
        "orphan": (1, 1.0, 1.0),
        "unknown": (1, 1.0, 1.0),
    }


@pytest.mark.parametrize("verdict", ["owned", "duplicate", "detached", "protected", "unknown"])
def test_a_proposal_of_anybody_else_is_wrong(verdict: Verdict) -> None:
    found = whole(relabelled(20, verdict))
    assert [one.pid for one in found.wrong_proposals] == [20]
    assert [one.pid for one in found.wrong] == [20]
    assert {one.verdict: one.false_positives for one in found.tallies}["orphan"] == 1
    assert found.recall_of(("orphan",)) is None


def test_an_orphan_that_is_taken_for_owned_is_missed() -> None:
    found = whole(relabelled(31, "orphan"))
    assert found.recall_of(("orphan", "superseded")) == 0.5
    assert [(one.pid, one.verdict) for one in found.wrong] == [(31, "owned")]
    assert found.wrong_proposals == ()


def test_silence_is_right_only_for_unowned_processes() -> None:
    found = whole(relabelled(1, "orphan"))
    assert [(one.pid, one.verdict) for one in found.unknown] == [(1, "unlisted")]
    assert found.recall_of(("orphan",)) == 0.5
    assert {one.verdict: one.false_positives for one in found.tallies}["unknown"] == 1


def test_the_rules_say_what_is_held_out() -> None:
    before, after = made(*ROWS), made(*ROWS, name="after", rules=rules.name("scenes"))
    found = scores(judged([before, after], []))
    assert (found.whole.scenes, found.held_out.scenes, found.recorded.scenes, found.listings.scenes) == (2, 1, 2, 0)
    assert (found.held_out_recorded.scenes, found.held_out_listings.scenes) == (1, 0)


def test_whatever_gives_verdicts_is_of_the_rules() -> None:
    found = {path.relative_to(SRC).as_posix() for path in rules.sources()}
    some = ("census/attribution.py", "census/verdicts.py", "census/governed.py", "catalog/servers.toml")
    assert set(some) <= found
    assert {"listing/parse.py", "processes/command.py", "reports/reap.py"} <= found
    assert [path for path in found if path.startswith(("census/findings", "daemon", "cli", "platform"))] == []
    assert len({rules.hash_of([path]) for path in rules.sources()}) == len(found)


def test_other_sources_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    same = msgspec.structs.replace(rules.declared(), sources=rules.sources_hash(), scenes="of the scenes")
    for declared, name in ((same, "of the scenes"), (msgspec.structs.replace(same, sources="x"), same.sources)):
        monkeypatch.setattr(rules, "declared", lambda declared=declared: declared)
        assert rules.name("scenes") == name


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Redeclare:
    """Declares the rules where the verdicts of some scenes were others before; returns the exit status and what
    ``rules.json`` has then."""

    def redeclare(*scenes: str, accept: bool) -> tuple[int, rules.Declared]:
        verdicts = {**digests(), **dict.fromkeys(scenes, "others")}
        before = rules.Declared(sources="of before", scenes="old", listings="older", verdicts=verdicts)
        path = tmp_path / "rules.json"
        rules.declare(before, path)
        monkeypatch.setattr(rules, "DECLARED", path)
        monkeypatch.setattr(rules, "declared", lambda: before)
        status = command.redeclare(accept=accept)
        return status, msgspec.json.decode(path.read_bytes(), type=rules.Declared)

    return redeclare


class TestDeclaring:
    def test_the_same_verdicts_keep_what_is_held_out(self, declared: Redeclare) -> None:
        status, found = declared(accept=False)
        assert (status, found.sources, found.scenes, found.listings) == (0, rules.sources_hash(), "old", "older")
        assert found.verdicts == digests()

    def test_other_verdicts_are_other_rules(self, declared: Redeclare, capsys: pytest.CaptureFixture[str]) -> None:
        status, found = declared("jobs-left", accept=False)
        assert (status, found.sources) == (1, "of before")
        assert "other rules: jobs-left\n" in capsys.readouterr().err

    def test_other_verdicts_end_what_is_held_out_of_their_kind(self, declared: Redeclare) -> None:
        status, found = declared("jobs-left", accept=True)
        assert (status, found.scenes, found.listings) == (0, rules.sources_hash(), "older")
        assert found.verdicts == digests()


def test_a_digest_tells_verdicts_apart() -> None:
    row = (1, "orphan", 0.6, False)
    others = [row, (2, *row[1:]), (1, "owned", 0.6, False), (1, "orphan", 0.9, False), (1, "orphan", 0.6, True)]
    assert len({rules.digest([one]) for one in others}) == len(others)
    assert rules.digest([row, others[1]]) == rules.digest([others[1], row]) != rules.digest([row])


def test_shares_are_never_rounded_up() -> None:
    assert (table.share(1.0), table.share(0.9999), table.share(None)) == ("100.0 %", "99.9 %", "–")


def test_the_page_lists_wrong_verdicts() -> None:
    page = table.markdown(scores(judged([relabelled(20, "owned")], [])))
    assert "| made | 20 | `node /home/dev/node_modules/.bin/chrome-devtools-mcp` | owned | orphan | changed |" in page
    assert "propose 1 of them, 1 wrongly" in page
    with pytest.raises(ValueError, match="no place"):
        table.into("a page without marks", page)


# -- recorded scenes -------------------------------------------------------------------------------------------------


def test_a_scene_is_a_line_a_process_and_read_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    scene.save(made(*ROWS), file)
    assert scene.load(file) == made(*ROWS)
    lines = file.read_text().splitlines()
    assert len([line for line in lines if '"process":' in line]) == len(ROWS)
    changed = tmp_path / "changed.json"
    scene.save(msgspec.structs.replace(relabelled(31, "orphan"), name="changed"), changed)
    other = changed.read_text().splitlines()
    assert len([1 for one, two in zip(lines, other, strict=True) if one != two]) == 2


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ((), "processes is empty"),
        ((ROWS[0], ROWS[0]), r"\[1\] are there twice"),
        ((ROWS[1], ROWS[0]), "not by pid"),
        ((row(5, 1, ("node", "/root/x"), "owned"),), "5 names /root"),
        ((row(5, 1, ("node", "--at=/home/somebody/x"), "owned"),), "5 names /home/somebody"),
        ((row(5, 1, ("node", "/tmp/other"), "owned"),), "5 names /tmp/other"),
        ((msgspec.structs.replace(ROWS[0], label=Label(verdict="owned", why=" ")),), "label of 1 has no reason"),
    ],
)
def test_a_scene_that_contradicts_itself_is_refused(rows: tuple[Recorded, ...], what: str, tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    with pytest.raises(ValueError, match=what):
        scene.save(made(*rows), file)
    assert not file.exists()
    file.write_bytes(msgspec.json.encode(made(*rows)))
    with pytest.raises(ValueError, match=f"made.json: .*{what}"):
        scene.load(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    for text, what in (("{", "truncated"), ("{}", "missing"), (msgspec.json.encode(made(*ROWS)).decode(), "itself")):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"other.json: .*{what}"):
            scene.load(file)
    odd = msgspec.json.encode(made(*ROWS)).decode().replace('"orphan"', '"stray"')
    file.write_text(odd)
    with pytest.raises(ValueError, match="stray"):
        scene.load(file)


def test_paths_of_the_stage_are_no_places_of_the_machine() -> None:
    command = ("node", "/home/dev/work/root/x", "/tmp/scene/a", "--in=/home/dev", "/opt/root/tmp/x")
    assert list(scene.problems(made(row(5, 1, command, "owned")))) == []


# -- listings --------------------------------------------------------------------------------------------------------

LISTING = """\
  PID  PPID COMMAND
  500     1 claude
  501   500 node /home/dev/node_modules/.bin/chrome-devtools-mcp
and PID 77, which no table has
"""
LABELS = """\
title = "made"
form = "ps -eo"
[[label]]
verdict = "owned"
why = "made so"
pids = [500, 501]
"""


def labelled(tmp_path: Path, labels: str) -> listing.ListingScene:
    (tmp_path / "made.txt").write_text(LISTING)
    (tmp_path / "made.labels").write_text(labels)
    return listing.load(tmp_path / "made.labels")


def test_a_listing_is_judged_as_scan_would(tmp_path: Path) -> None:
    found = judged([], [labelled(tmp_path, LABELS)])
    assert [(one.pid, one.label, one.verdict, one.recorded) for one in found] == [
        (500, "owned", "owned", False),
        (501, "owned", "owned", False),
    ]


def test_a_process_that_was_not_read_counts_as_missed(tmp_path: Path) -> None:
    found = judged([], [labelled(tmp_path, LABELS.replace("501]", "501, 77]"))])
    assert [(one.pid, one.verdict, one.command) for one in found if not one.right] == [(77, "unlisted", "not read")]


def test_a_listing_that_is_younger_than_its_rules_is_held_out(tmp_path: Path) -> None:
    line = 'rules = "{}"\n'.format(rules.name("listings"))
    assert not any(one.held_out for one in judged([], [labelled(tmp_path, LABELS)]))
    assert all(one.held_out for one in judged([], [labelled(tmp_path, line + LABELS)]))


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (LABELS.replace(", 501", ""), r"\[501\] have no label"),
        (LABELS.replace("501", "501, 502"), r"\[502\] are not in the listing"),
        (LABELS.replace("501", "501, 500"), r"\[500\] have two labels"),
        (LABELS.replace("made so", " "), "a text is empty"),
        (LABELS.replace('"owned"', '"mine"'), "mine"),
        (LABELS.replace("title", "name"), "name"),
        ("= 1", "Invalid"),
    ],
)
def test_labels_that_are_wrong_are_refused(labels: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"made.labels: .*{what}"):
        labelled(tmp_path, labels)


def test_what_is_right_is_right_by_the_label() -> None:
    one = Judged(
        scene="made", recorded=True, held_out=False, pid=1, command="x", label="unknown", why="", verdict="unlisted"
    )
    assert one.right
    assert not msgspec.structs.replace(one, label="protected").right
    assert not msgspec.structs.replace(one, proposed=True).rightly_proposed
    assert msgspec.structs.replace(one, label="superseded", proposed=True).rightly_proposed
