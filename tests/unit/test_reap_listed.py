"""``oomless reap --from``: what is proposed of a listing, what is held back, and what it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import listings
from listings import EO, SERVER, TWO_TERMINALS, eo
from oomless.cli.app import build
from oomless.protocol.client import Client

SESSION = EO + eo(500, 400, "20:00", "claude", "pts/1") + eo(501, 500, "19:00", SERVER, "pts/1")
COPY = SESSION + eo(600, 401, "10:00", "claude", "pts/2") + eo(601, 600, "09:00", SERVER, "pts/2")
GENERATIONS = SESSION + eo(502, 500, "01:00", SERVER, "pts/1")
LOST = SESSION + eo(700, 1, "30:00", SERVER, "?")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of its own, and no way to anybody who signals."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(Client, "reap", lambda *a: pytest.fail("a listing was to be reaped"))
    return tmp_path


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(build("reap"), ["reap", "--from", "-", *arguments], input=text)


def told(text: str, *arguments: str) -> dict[str, Any]:
    result = run("--json", *arguments, text=text)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_json_is_that_of_reap_with_what_could_not_be_read() -> None:
    found = told(COPY + "  12 x\n")
    assert list(found) == [
        *("schema", "dry_run", "proposed", "held_back", "bytes_recoverable", "ended", "left", "refused"),
        *("bytes_freed", "bytes_source", "notes", "unreadable"),
    ]
    assert (found["schema"], found["dry_run"], found["proposed"]) == ("oomless.reap/1", True, [])
    assert found["unreadable"] == [{"line": 6, "text": "  12 x"}]


def test_what_is_asked_for_is_proposed_with_its_evidence() -> None:
    found = told(COPY, "--include", "duplicate")
    (one,) = found["proposed"]
    assert (one["pid"], one["verdict"], one["server"], one["session"]) == (601, "duplicate", "claude-flow", "600")
    assert "is older and runs the same command line, as 501" in one["evidence"][0]
    assert (one["start"], one["bytes_recoverable"], found["bytes_recoverable"]) == (None, None, None)
    assert (one["footprint_bytes"], one["footprint_source"]) == (10_000 * 1024, "listing")


def test_order_of_start_alone_is_held_back() -> None:
    found = told(GENERATIONS)
    assert found["proposed"] == []
    (held,) = found["held_back"]
    assert (held["pid"], held["start"]) == (501, None)
    assert held["why"].startswith("superseded with confidence 60% only")


def test_an_orphan_is_never_proven_and_it_says_why() -> None:
    found = told(LOST)
    (held,) = found["held_back"]
    assert (found["proposed"], held["pid"]) == ([], 700)
    assert held["why"].startswith("orphan with confidence 60% only; its parent is 1")
    assert "no standard input and no history, so no leftover is proven" in found["notes"][0]
    served = told(LOST.replace(SERVER, f"{SERVER} --port 3000"))
    assert (served["proposed"], served["held_back"]) == ([], [])
    assert served["notes"][1:] == ["not proven to be leftover although their parent is gone: 700 claude-flow"]
    assert not any("although their parent is gone" in note for note in told(COPY)["notes"])


def test_what_a_listing_does_not_print_is_named() -> None:
    notes = " ".join(told(TWO_TERMINALS.replace("9:03AM", "-     "))["notes"])
    assert "prints no parents" in notes
    assert "does not say when each process was started" in notes
    notes = " ".join(told(COPY)["notes"])
    assert "prints no parents" not in notes
    assert "does not say when" not in notes


def test_for_people() -> None:
    out = run(text=LOST + "  12 \x1b[2Jx\n").stdout
    assert out.startswith("700 is held back: orphan with confidence 60% only")
    assert "\nNo process is proven to be a leftover.\nnote: a listing shows no standard input" in out
    assert "line 5: " in out
    assert "\x1b" not in out
    out = run("--include", "duplicate", text=COPY).stdout
    assert (
        "1 process to kill, frees an unknown amount; nothing of a listing is signalled, it is of another time" in out
    )
    assert [line.split()[0] for line in out.splitlines() if "claude-flow:" in line] == ["601"]


@pytest.mark.parametrize("text", [COPY, ""])
def test_a_listing_is_never_signalled(text: str, alone: Path) -> None:
    result = run("--yes", text=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "oomless: error: --yes cannot kill what a listing names: its processes are of another time or "
        "machine\nhint: leave --yes out, or --from\n"
    )
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "standard input is empty"),
        ("nothing here\n", "standard input names no process"),
        ("PID\0COMMAND\n", "standard input holds no text"),
    ],
)
def test_mistakes_are_those_of_scan(text: str, says: str) -> None:
    result = run(text=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"oomless: error: {says}")


def test_it_makes_nothing(alone: Path) -> None:
    told(listings.LINUX_EF)
    assert list(alone.iterdir()) == []
