"""The incident's report, retold, and its rebuilt ``ps aux``: what it says wrongly is found, with lines and pids."""

from __future__ import annotations

import pytest

from diagnosing import against, claim, data, line_of, reported

REPORT, TABLE = data("incident.md"), data("incident-ps.txt")
HELPERS = (4433, 19284, 19285, 19287, 21363, 22932)
SETS = ("chrome-devtools-mcp", "claude-flow", "wingman-mcp-server")


@pytest.mark.parametrize("text", [REPORT, TABLE], ids=["report", "ps"])
def test_helpers_are_named_extension_hosts_with_evidence(text: str) -> None:
    found = reported(text)
    assert sorted(node.pid for node in found.tree if node.kind == "extension-host") == sorted(HELPERS)
    judged = claim(found, "the helpers are subagents")
    assert judged.verdict == "refuted"
    evidence = " | ".join(judged.evidence)
    assert "19284, 19285, 19287 follow each other, 125 after PID 19159" in evidence
    assert "Helper (Plugin)" in evidence
    assert all(str(pid) in evidence for pid in HELPERS)


def test_the_parent_is_evidence_where_it_is_told() -> None:
    evidence = claim(reported(REPORT), "the helpers are subagents").evidence
    at = line_of(REPORT, "Parent PID 19159")
    assert any(f"line {at}: its parent is PID 19159" in one for one in evidence)
    assert any("5 Task tool invocations, but 6 helpers" in one for one in evidence)


def test_subagents_with_a_pid_are_none() -> None:
    judged = claim(reported(REPORT), "each subagent is a process")
    assert judged.verdict == "refuted"
    assert f"PID 19287 (line {line_of(REPORT, 'subagent 2)')}): an extension host" in judged.evidence


@pytest.mark.parametrize("text", [REPORT, TABLE], ids=["report", "ps"])
def test_duplicates_on_both_terminals(text: str) -> None:
    found = reported(text)
    judged = claim(found, "servers are duplicated")
    assert judged.verdict == "supported"
    for name in SETS:
        assert any(one.startswith(f"{name}: ") and "on s008 and s022" in one for one in judged.evidence), name
    finding = next(one for one in found.findings if one.rule == "duplicate-servers")
    assert "s008, s022" in finding.action
    assert finding.action in found.now


@pytest.mark.parametrize(
    ("text", "footprint"), [(REPORT, "82 MB to 100 MB"), (TABLE, "164 MB in 6 processes")], ids=["report", "ps"]
)
def test_claude_flow_is_not_to_blame(text: str, footprint: str) -> None:
    judged = claim(reported(text), "claude-flow is to blame")
    assert judged.verdict == "refuted"
    assert footprint in judged.evidence[0]
    assert "PID 19284 635 MB" in judged.evidence[-1]


def test_other_claims_of_the_report() -> None:
    found = reported(REPORT)
    assert claim(found, "subagents never release memory").verdict == "unknown"
    assert claim(found, "a smaller model saves local memory").verdict == "refuted"
    assert claim(found, "the total of vscode node helpers is 2,962 MB").verdict == "supported"
    disputed = claim(found, "the total is ~2,100 MB")
    assert disputed.verdict == "unknown"
    assert "5,500+ MB" in disputed.evidence[1]


def test_contradictions_of_the_report() -> None:
    found = {one.rule: one for one in against(REPORT)}
    assert found["stated-count"].values == ("9 stated", "12 listed")
    assert line_of(REPORT, "9 active") in found["stated-count"].lines
    assert found["two-figures"].about == "the memory of PID 19287"
    assert found["two-figures"].values == ("552 MB", "555 MB")
    assert found["two-figures"].lines == (line_of(REPORT, "19287: 552"), line_of(REPORT, "19287: 555"))
    assert found["two-lists"].values == ("6 listed", "5 listed")
    assert "helper" in found["two-lists"].about
    assert found["two-roles"].about == "what PID 19284 is"
    assert found["two-roles"].values == ("main session", "subagent")
    assert found["two-amounts"].values == ("400-600 MB", "~200 MB")
    assert found["several-totals"].values == ("~2,100 MB", "~3,500 MB", "5,500+ MB")
    assert len(against(REPORT)) == 6


def test_the_table_contradicts_nothing() -> None:
    assert against(TABLE) == []


def test_the_summary_says_whose_it_is_and_what_is_not_shown() -> None:
    found = reported(REPORT)
    assert found.summary[0].startswith("All of the 2.96 GB that is given by process is in 6 extension hosts of")
    assert found.summary[1] == (
        "So it is the editor's memory, for its extensions; no subagent is among these processes."
    )
    assert "Neither shown nor refuted: subagents never release memory." in found.summary
    table = reported(TABLE).summary
    assert table[0].startswith(
        "2.96 GB (64%) of the 4.61 GB that is given by process is in 6 extension hosts of vscode"
    )


def test_its_warning_signs() -> None:
    rules = {one.rule: one for one in reported(REPORT).findings}
    assert rules["many-subagents"].title == "5 subagents were started at once"
    assert rules["many-subagents"].evidence[0].startswith(f"line {line_of(REPORT, '5 Task tool')}: 5 Task tool")
    assert (
        rules["many-servers"]
        .evidence[0]
        .startswith("12 instances of 5 servers: chrome-devtools-mcp 2, claude-flow 4")
    )
    fewer = reported(REPORT.replace("5 Task tool", "3 Task tool"))
    assert "many-subagents" not in {one.rule for one in fewer.findings}
    assert "many-subagents" not in {one.rule for one in reported(REPORT.replace(" were made together", "")).findings}


def test_what_has_no_figure_is_not_nothing() -> None:
    groups = {(one.kind, one.name): one for one in reported(REPORT).groups}
    assert groups["server", "claude-flow"].footprint_bytes is None
    assert groups["extension-host", "an editor"].footprint_bytes == 2_962_000_000


def test_totals_are_apart_from_causes() -> None:
    judge_claims = reported(REPORT).claims
    assert {one.about for one in judge_claims if one.text.startswith("the total")} == {"total"}
    assert {one.about for one in judge_claims if not one.text.startswith("the total")} == {"cause"}


def test_the_terminal_is_shown() -> None:
    assert {node.place for node in reported(TABLE).tree if node.pid in (41863, 41896)} == {"s022"}


def test_timeline_groups_and_sources() -> None:
    found = reported(REPORT)
    assert [event.text for event in found.timeline][:2] == ["First try", "every one was interrupted."]
    group = next(one for one in found.groups if one.kind == "extension-host")
    assert (group.processes, group.footprint_bytes) == (6, 2_962_000_000)
    assert group.source.startswith("line")
    metric = next(one for one in found.metrics if one.name == "accounted for")
    assert metric.source.startswith("line")
    depth = {node.pid: node.depth for node in found.tree}
    assert (depth[19159], depth[19284]) == (0, 1)
