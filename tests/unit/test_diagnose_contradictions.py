"""The rules on contradictions on other texts than the incident's: what they find, and where they say nothing."""

from __future__ import annotations

import pytest

from diagnosing import against, reported

BUILD_FARM = """# Why the build box stalled

We found seven language servers on it:
- tsserver (3 instances)
- pyright-langserver (2 instances)
- gopls

Workers, by size (4 workers up):
* PID 501: 1.2 GB
* PID 502: 900 MB
* PID 503: 880 MB
* PID 504: 610 MB

Each worker uses 90 MB.
Per-worker: 250-300 MB

With 8 workers:
- Base: 400 MB
- Workers: 2,000 MB
- Total: 2.4 GB

Running 8 workers at night:
- Total: 1,200 MB

The workers that were left:
* PID 501: 1.2 GB (worker)
* PID 502: 930 MB (worker)
* PID 503: 880 MB (worker)

PID 777 is the dev server.
PID 777: 300 MB (MCP server)
"""

LAPTOP = """Notes on the frozen laptop.

PID 4120 (renderer) had 1.5 GB
PIDs 4120, 4121 again: the extension host PID 4120

I counted 3 sessions:
1. claude
2. codex
3. gemini
4. opencode

memory came to a total of 6.5 GB
Sum of it:
- Chrome: 2 GB
- Slack: 1 GB
- Total: 4 GB

In all a total of 9 GB
"""

CONSISTENT = """# Growth of one session, measured

Machine: total memory: 16 GB, about 3 GB free.

10:00 PID 300: 310 MB
10:30 PID 300: 420 MB
PID 300 grew from 310 MB to 420 MB.
PID 300: 1.9 GB VSZ
PID 300: 420 MB RSS

I counted 5 MCP servers in 3 groups:
- filesystem (2 instances)
- github
- memory (2 instances)

The two sessions ran on 2 machines:
- PID 300: 420 MB
- PID 301: 205 MB
- PID 302: 101 MB

The largest of these sessions:
- PID 300: 420 MB (session)
- PID 301: 205 MB (session)

After 3 runs this was seen:
- The memory of it came back to where it had been.
- Nothing was left behind by any of them.
- The next one started from there.
- All ended.

Before the change:
- Subagent 1: 500 MB
- Subagent 2: 300 MB
- Total: 800 MB

After the change:
- Subagent 1: 40 MB
- Subagent 2: 30 MB
- Total: 70 MB

Each helper uses about 400 MB.
Per helper: 410 MB
Each server takes 60 MB, not 600 MB.

With 4 agents on haiku: total 900 MB
With 4 agents on opus: total 1,300 MB

PID 302 is the MCP server of the subagent.
PID 302: MCP server, never a subagent
"""


def test_a_build_farm() -> None:
    found = {one.rule: one for one in against(BUILD_FARM)}
    assert found["stated-count"].values == ("7 stated", "6 listed")
    assert found["two-lists"].values == ("4 listed", "3 listed")
    assert found["two-figures"].values == ("900 MB", "930 MB")
    assert found["two-roles"].values == ("dev server", "MCP server")
    assert found["two-roles"].about == "what PID 777 is"
    assert found["two-amounts"].values == ("90 MB", "250-300 MB")
    assert found["several-totals"].values == ("1,200 MB", "2.4 GB")
    assert len(against(BUILD_FARM)) == 6


def test_a_laptop() -> None:
    found = {one.rule: one for one in against(LAPTOP)}
    assert found["two-roles"].values == ("renderer", "extension host")
    assert found["stated-count"].values == ("3 stated", "4 listed")
    assert found["wrong-sum"].values == ("4 GB", "3.00 GB by its parts")
    assert found["several-totals"].values == ("6.5 GB", "9 GB")
    assert len(against(LAPTOP)) == 4


def test_a_consistent_text_has_none() -> None:
    assert against(CONSISTENT) == []
    assert reported(CONSISTENT).contradictions == ()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("two-figures", "PID 7: 100 MB\nPID 7: 140 MB\n"),
        ("two-roles", "PID 7: main session\nPID 7: subagent 2\n"),
        ("two-amounts", "Dev server: 200 MB\n\nDev server: 310 MB\n"),
        ("stated-count", "There are 4 servers:\n- one\n- two\n- three\n"),
        ("several-totals", "Total with 3 agents: 500 MB\n\nTotal with 3 agents: 900 MB\n"),
        ("wrong-sum", "- a: 100 MB\n- b: 100 MB\n- Total: 500 MB\n"),
    ],
)
def test_each_rule_alone(rule: str, text: str) -> None:
    assert [one.rule for one in against(text)] == [rule]
    assert against(text)[0].lines


@pytest.mark.parametrize(
    "text",
    [
        "PID 7: 100 MB before\nPID 7: 140 MB after\n",
        "PID 7: 100 MB\nPID 8: 140 MB\n",
        "PID 7: ~100 MB\nPID 7: 108 MB\n",
        "PID 7: 100 MB, PID 8: 300 MB\nPID 7: 100 MB\n",
        "PID 7 is not a subagent\nPID 7: main session\n",
        "Dev server: 200 MB\n\nDev server (limit): 310 MB\n",
        "Subagent 1: 100 MB\nSubagent 2: 500 MB\n",
        "There are about 4 servers:\n- one\n- two\n- three\n",
        "Some of the 4 servers:\n- one\n- two\n- three\n",
        "It took 4 minutes:\n- one\n- two\n- three\n",
        "There are 4 servers:\n- one (2 instances)\n- two\n- three\n",
        "- a: 100 MB\n- b: unknown\n- Total: 500 MB\n",
        "- a: 100 MB\n- b: 100 MB\n- Total available: 500 MB\n",
        "- a: 100 MB\n- b: 100 MB\n\nclaude-flow footprint: 80 MB total\n",
        "Total with 3 agents: 500 MB\n\nTotal with 5 agents: 900 MB\n",
        "",
    ],
)
def test_no_contradiction_is_invented(text: str) -> None:
    assert against(text) == []


def test_a_table_and_prose() -> None:
    header = "USER PID %CPU %MEM VSZ RSS TT STAT STARTED TIME COMMAND\n"
    table = header + "sam 7 0.0 0.1 900000 {rss} s001 S 10:00 0:01.00 claude\n"
    words = "\nPID 7: 512 MB\n"
    assert against(table.format(rss=512 * 1024) + words) == []
    found = against(table.format(rss=900 * 1024) + words)
    assert [one.values for one in found] == [("512 MB", "944 MB")]
    assert found[0].lines == (2, 4)
