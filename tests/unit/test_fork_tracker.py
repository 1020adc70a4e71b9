"""Parents that come and go between two looks: the kernel's events, the lines made of them, and what lineage takes."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import Callable

import pytest

from descents import CHILD, CLAUDE, ROOT, SERVER, SHELL, stat, table
from oomless.daemon.sessions import sampling
from oomless.daemon.sessions.sampling import ForkTracker
from oomless.platform.fork_events import Event, parse
from oomless.processes.descent import Descendants, Descent
from oomless.processes.forks import DEEPEST, ForkLines
from oomless.processes.ids import ProcessId

assert sys.platform == "linux"


# Events


def datagram(what: int, *values: int) -> bytes:
    """As ``linux/cn_proc.h`` lays it out."""
    event = struct.pack("=IIQ", what, 0, 1) + struct.pack(f"={len(values)}I", *values)
    message = struct.pack("=IIIIHH", 1, 1, 0, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(message), 3, 0, 0, 0) + message


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (datagram(1, 10, 10, 20, 20), Event("fork", 20, 10)),
        (datagram(1, 11, 10, 20, 20), Event("fork", 20, 10)),
        (datagram(1, 10, 10, 21, 20), None),
        (datagram(2, 20, 20), Event("exec", 20)),
        (datagram(0x80000000, 20, 20, 0, 17, 10, 10), Event("exit", 20)),
        (datagram(0x80000000, 21, 20, 0, 0, 10, 10), None),
        (datagram(0x200, 20, 20, 0, 0, 0, 0), None),
        (datagram(0, 0), None),
        (datagram(1, 10, 10, 20, 20)[:50], None),
        (b"", None),
    ],
)
def test_an_event_is_read_and_threads_are_passed_over(raw: bytes, expected: Event | None) -> None:
    assert parse(raw) == expected


# Lines


def test_a_line_has_all_parents_that_were_told_of_the_nearest_last() -> None:
    births = ForkLines()
    for parent, child in ((10, 30), (30, 31), (31, 32)):
        births.add_fork(parent, child)
    assert births.lines() == {30: (10,), 31: (10, 30), 32: (10, 30, 31)}


def test_a_line_is_kept_over_one_look_and_forgotten_after_two() -> None:
    births = ForkLines()
    births.add_fork(10, 30)
    births.mark_read()
    births.add_fork(30, 31)
    assert births.lines()[31] == (10, 30)
    births.mark_read()
    births.mark_read()
    assert births.lines() == {}


def test_a_number_that_is_used_again_has_its_new_line() -> None:
    births = ForkLines()
    births.add_fork(10, 30)
    births.mark_read()
    births.add_fork(99, 30)
    assert births.lines() == {30: (99,)}


def test_a_line_is_bounded_and_lost_events_end_all() -> None:
    births = ForkLines()
    for pid in range(1, 100):
        births.add_fork(pid, pid + 1)
    assert births.lines()[100] == tuple(range(100 - DEEPEST, 100))
    births.clear()
    assert births.lines() == {}


# Ancestry


def test_whose_parent_came_and_went_is_known_by_its_line() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE))
    descendants.observe(table(CLAUDE, stat(40, 1, 39)), lines={39: (10,), 40: (10, 39)})
    assert descendants.descents == {(40, 40): Descent(above=(ProcessId(39, 0),), shell_sid=39)}


def test_a_detached_job_of_a_shell_that_is_gone_is_not_its_mate() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE))
    descendants.observe(table(CLAUDE, stat(41, 1, 41)), lines={41: (10, 39)})
    assert descendants.descents[ProcessId(41, 41)] == Descent(above=(ProcessId(39, 0),), shell_sid=39)


def test_in_the_sessions_own_process_session_a_parent_that_is_gone_was_no_shell() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE))
    descendants.observe(table(CLAUDE, stat(41, 1, 5)), lines={41: (10, 39)})
    assert descendants.descents[ProcessId(41, 41)] == Descent(above=(ProcessId(39, 0),), shell_sid=None)


def test_a_line_goes_up_to_the_nearest_that_is_known() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SERVER, SHELL, CHILD))
    descendants.observe(table(CLAUDE, SERVER, SHELL, stat(41, 1, 30)), lines={40: (31,), 41: (31, 40)})
    assert descendants.descents[ProcessId(41, 41)] == Descent(
        above=(ProcessId(30, 30), ProcessId(31, 31), ProcessId(40, 0)), shell_sid=30
    )


def test_a_line_to_a_stranger_or_to_a_number_used_again_proves_nothing() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE, SERVER))
    descendants.observe(table(CLAUDE, stat(41, 1, 5)), lines={20: (77,), 41: (20,)})
    assert descendants.descents == {}
    descendants.observe(table(stat(10, 77, 5, start=50), stat(42, 1, 5, start=60)), lines={10: (77,), 42: (10,)})
    assert descendants.descents == {}


def test_what_was_born_and_orphaned_just_before_the_death_is_known() -> None:
    descendants = Descendants(ROOT)
    descendants.observe(table(CLAUDE))
    descendants.observe(table(stat(41, 1, 5)), lines={41: (10, 39)})
    assert (41, 41) in descendants.descents


# When it listens


class Source:
    """Events as a test gives them."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Event], bool]] = []
        self.ours, self.its = os.pipe()
        self.closed = False

    def fileno(self) -> int:
        return self.ours

    def read(self) -> tuple[list[Event], bool]:
        return self.batches.pop(0) if self.batches else ([], False)

    def close(self) -> None:
        self.closed = True


def with_watch(body: Callable[[ForkTracker, Source, list[str]], None]) -> None:
    source, resynced = Source(), []

    async def run() -> None:
        watch = ForkTracker(lambda: resynced.append("now"), lambda: source)  # type: ignore[return-value, arg-type]
        body(watch, source, resynced)
        watch.close()

    try:
        asyncio.run(run())
    finally:
        os.close(source.ours)
        os.close(source.its)


def test_it_listens_only_when_wanted_and_tells_lines_and_execs() -> None:
    def body(watch: ForkTracker, source: Source, _: list[str]) -> None:
        assert not watch.listening
        assert watch.drain() == ({}, set())
        watch.listen(True)
        assert watch.listening
        source.batches.append(([Event("fork", 30, 10), Event("exec", 30), Event("exit", 31)], False))
        assert watch.drain() == ({30: (10,)}, {30})
        watch.mark_sampled()
        assert watch.drain()[1] == set()
        watch.listen(False)
        assert source.closed
        assert not watch.listening

    with_watch(body)


def test_lost_events_are_answered_by_a_look() -> None:
    def body(watch: ForkTracker, source: Source, resynced: list[str]) -> None:
        watch.listen(True)
        source.batches += [([Event("fork", 30, 10)], False), ([], True)]
        watch._read_events()
        assert resynced == []
        watch._read_events()
        assert resynced == ["now"]
        assert watch.drain()[0] == {}
        assert watch.listening

    with_watch(body)


def test_too_many_events_and_it_stops_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(watch: ForkTracker, source: Source, _: list[str]) -> None:
        watch.listen(True)
        source.batches += [([Event("exit", 30)] * 500, False), ([Event("exit", 30)], False)]
        watch._read_events()
        assert watch.listening
        watch._read_events()
        assert not watch.listening
        assert source.closed
        watch.listen(True)
        assert not watch.listening
        monkeypatch.setattr(sampling, "LISTEN_AGAIN_AFTER", 0.0)
        watch._not_before = 0.0
        watch.listen(True)
        assert watch.listening

    with_watch(body)
