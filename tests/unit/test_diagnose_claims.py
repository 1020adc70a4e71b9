"""Each claim supported, refuted and unknown, on texts of a few lines and on cases of a live machine."""

from __future__ import annotations

import pytest

from diagnosing import claim, reported
from oomless.reports.diagnose import report
from oomless.reports.diagnose.claims import CLAIMS
from oomless.reports.diagnose.facts import Case, CaseProcess, Copies, EndedAgent, Inside

HEADER = "USER PID PPID RSS TTY COMMAND\n"
EACH, NEVER, HELPERS = "each subagent is a process", "subagents never release memory", "the helpers are subagents"
BLAME, DUPLICATED, SMALLER = (
    "claude-flow is to blame",
    "servers are duplicated",
    "a smaller model saves local memory",
)


def live(**facts: object) -> report.DiagnosisReport:
    return report.build_report(Case(origin="live", **facts), "this machine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "verdict", "text"),
    [
        (EACH, "unknown", "PID 7: 100 MB (subagent 1)\n"),
        (EACH, "refuted", "PID 7: Cursor Helper (Plugin) - subagent 1\n"),
        (HELPERS, "refuted", "PID 7: 300 MB, VSCode Node Helper\n"),
        (HELPERS, "unknown", "PID 7: 300 MB, Code Helper (Renderer)\n"),
        (HELPERS, "unknown", "PID 7: 300 MB, Code Helper\n"),
        (HELPERS, "refuted", "PID 7: 300 MB, Code Helper\n\nThat is Code Helper (Plugin).\n"),
        (BLAME, "refuted", "Each claude-flow instance = ~90 MB\n\nPID 7: 2 GB\n"),
        (BLAME, "supported", "claude-flow footprint: 3 GB\n\nPID 7: 400 MB\n"),
        (BLAME, "unknown", "claude-flow footprint: 900 MB\n\nPID 7: 2 GB\n"),
        (BLAME, "unknown", "claude-flow footprint: 900 MB\n"),
        (BLAME, "unknown", "PID 7: 2 GB\n"),
        (BLAME, "supported", HEADER + "sam 7 1 900000 ? claude-flow mcp start\nsam 8 1 1000 ? claude\n"),
        (DUPLICATED, "supported", "2 instances of wingman-mcp-server (s001 and s002)\n"),
        (DUPLICATED, "refuted", HEADER + "sam 7 1 900 s001 flow-nexus mcp\nsam 8 7 900 s001 flow-nexus mcp\n"),
        (DUPLICATED, "supported", HEADER + "sam 7 1 900 s001 flow-nexus mcp\nsam 8 1 900 s002 flow-nexus mcp\n"),
        (DUPLICATED, "unknown", "2 instances of bash (s001 and s002)\n"),
        (SMALLER, "refuted", "# Second\nwith model=haiku\nit ran out of memory again\n"),
        (SMALLER, "unknown", "# First\nit ran out of memory\n# Second\nwith model=haiku\n"),
        (SMALLER, "unknown", "# Once\nit ran out of memory\nthen with model=haiku\n"),
        (SMALLER, "supported", HEADER + "sam 7 1 9000000 ? ollama runner --model small\n"),
        ("the total is 200 MB", "supported", "- a: 100 MB\n- b: 100 MB\n- Total: 200 MB\n"),
        ("the total is 300 MB", "refuted", "- a: 100 MB\n- b: 100 MB\n- Total: 300 MB\n"),
        ("the total is 300 MB", "unknown", "Total: 300 MB\n"),
    ],
)
def test_of_a_text(words: str, verdict: str, text: str) -> None:
    judged = claim(reported(text), words)
    assert judged.verdict == verdict
    assert judged.evidence


def test_every_claim_is_judged_even_of_nothing() -> None:
    found = reported("nothing to see\n")
    assert len(found.claims) == len(CLAIMS)
    assert {one.verdict for one in found.claims} == {"unknown"}
    assert all(one.evidence for one in found.claims)


def test_subagents_within_a_session() -> None:
    judged = claim(live(inside=(Inside(session="abc", number=3),)), EACH)
    assert (judged.verdict, judged.evidence[0]) == ("refuted", "session abc: 3 run within its process")


@pytest.mark.parametrize(("survivors", "verdict"), [((0, 0), "refuted"), ((0, 2), "refuted"), ((1, 2), "supported")])
def test_agents_that_ended(survivors: tuple[int, ...], verdict: str) -> None:
    ended = tuple(EndedAgent(tree=f"t{n}", survivors=n, peak_bytes=5_000_000) for n in survivors)
    judged = claim(live(ended=ended), NEVER)
    assert judged.verdict == verdict
    assert judged.evidence[0].startswith("journal: 2 governed agents ended")


def test_live_servers_and_blame_have_pids_and_sources() -> None:
    processes = (
        CaseProcess(pid=5, kind="server", server="claude-flow", footprint_bytes=90_000_000, source="pss"),
        CaseProcess(pid=6, kind="session", footprint_bytes=2_000_000_000, source="pss"),
    )
    copies = (Copies(name="claude-flow", number=2, places=("claude-code aa", "claude-code bb"), pids=(5, 9)),)
    found = live(processes=processes, copies=copies)
    assert claim(found, BLAME).verdict == "refuted"
    assert "PID 5 90 MB (pss)" in claim(found, BLAME).evidence[0]
    assert claim(found, DUPLICATED).evidence == (
        "claude-flow: 2 instances in claude-code aa and claude-code bb (PIDs 5, 9)",
    )
