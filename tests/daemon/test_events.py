"""The daemon's event bus and its subscribers, and the tasks that nobody awaits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from oomless.daemon.events import (
    QUEUED,
    DaemonEvent,
    EventBus,
    EventStream,
    MemoryWarning,
    TreeAdmitted,
    TreeDecision,
    TreeEnded,
    TreeRefused,
    TreeWaiting,
    TreeWithdrawn,
    VictimChosen,
    record_decisions,
)
from oomless.daemon.logs import Log
from oomless.daemon.tasks import TaskSet
from oomless.errors import JournalError
from oomless.journal.journal import Journal

ADMITTED = TreeAdmitted(tree="t1", name="a", reason="it fits", at=1.0)
ENDED = TreeEnded(tree="t1", name="a", reason="done", at=2.0)


def test_a_subscriber_gets_its_class_and_what_is_below_in_order() -> None:
    bus, heard = EventBus(), list[tuple[str, DaemonEvent]]()
    bus.subscribe(DaemonEvent, lambda event: heard.append(("all", event)))
    bus.subscribe(TreeDecision, lambda event: heard.append(("decisions", event)))
    bus.subscribe(TreeEnded, lambda event: heard.append(("ends", event)))
    bus.publish(ADMITTED)
    bus.publish(ENDED)
    assert heard == [("all", ADMITTED), ("decisions", ADMITTED), ("all", ENDED), ("ends", ENDED)]


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (ADMITTED, "decision", "admitted: it fits"),
        (TreeWaiting(tree="t1", name="a", reason="full"), "decision", "waiting: full"),
        (TreeRefused(tree="t1", name="a", reason="full"), "decision", "refused: full"),
        (TreeWithdrawn(tree="t1", name="a", reason="gone"), "decision", "withdrawn: gone"),
        (ENDED, "end", "done"),
        (VictimChosen(tree="t1", name="a", reason="too much"), "victim", "too much"),
        (MemoryWarning(reason="much"), "pressure", "much"),
    ],
)
def test_readers_of_events_see_kind_and_text(event: DaemonEvent, kind: str, text: str) -> None:
    bus = EventBus()
    stream = EventStream(bus)
    queue = stream.open()
    bus.publish(event)
    view = queue.get_nowait()
    assert (view.kind, view.text, view.at) == (kind, text, event.at)
    assert (view.tree, view.name) == (("", "") if kind == "pressure" else ("t1", "a"))
    stream.close(queue)
    bus.publish(event)
    assert queue.empty()


def test_a_slow_reader_loses_the_oldest() -> None:
    bus = EventBus()
    queue = EventStream(bus).open()
    for at in range(QUEUED + 2):
        bus.publish(TreeEnded(tree="t", name="", reason="", at=float(at)))
    assert (queue.qsize(), queue.get_nowait().at) == (QUEUED, 2.0)


def test_decisions_go_to_the_journal_and_one_that_cannot_be_written_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, bus, log = Journal.open(str(tmp_path / "journal.db")), EventBus(), tmp_path / "log"
    with log.open("w") as file:
        record_decisions(bus, journal, Log(file.fileno()))
        bus.publish(ADMITTED)
        bus.publish(ENDED)
        (row,) = journal.decisions.recent()
        assert (row.at, row.tree, row.name, row.verdict, row.reason) == (1.0, "t1", "a", "admitted", "it fits")

        def full(decision: object) -> None:
            raise JournalError("cannot write", "the disk is full")

        monkeypatch.setattr(journal.decisions, "add", full)
        bus.publish(ADMITTED)
    journal.close()
    assert "the disk is full" in log.read_text()


def test_a_task_that_fails_is_logged_and_others_go_on(tmp_path: Path) -> None:
    done = list[str]()

    async def fails() -> None:
        raise ValueError("no")

    async def works() -> None:
        await asyncio.sleep(0)
        done.append("works")

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            done.append("cancelled")
            raise

    async def scene(log: Log) -> None:
        tasks = TaskSet(log, "a sweep failed")
        tasks.start(fails())
        tasks.start(works())
        await tasks.wait(10)
        tasks.start(waits())
        await tasks.wait(0.01)
        await tasks.cancel()
        await tasks.wait(10)

    path = tmp_path / "log"
    with path.open("w") as file:
        asyncio.run(scene(Log(file.fileno())))
    assert done == ["works", "cancelled"]
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["text"] == "a sweep failed: ValueError('no')"
