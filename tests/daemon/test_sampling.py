"""When readers have the process table sampled: once for all who ask together, and only if a process was born."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from descents import NoTrees
from oomless.daemon.sessions import sampling
from oomless.daemon.sessions.sampling import ProcessSample, ProcessSampler
from oomless.platform import system


class Observer:
    def __init__(self) -> None:
        self.samples: list[ProcessSample] = []

    def __bool__(self) -> bool:
        return False

    def observe(self, sample: ProcessSample) -> None:
        self.samples.append(sample)


def run(scene: Callable[[ProcessSampler, Observer], Coroutine[Any, Any, None]]) -> None:
    async def with_sampler() -> None:
        sampler, observer = ProcessSampler(NoTrees()), Observer()
        sampler.start(observer)
        try:
            await scene(sampler, observer)
        finally:
            sampler.stop()

    asyncio.run(with_sampler())


@pytest.fixture
def births(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pid that was given out last, as far as the sampler is told; all that runs has settled."""
    last = [100]
    monkeypatch.setattr(system, "last_pid", lambda: last[-1])
    monkeypatch.setattr(sampling, "SETTLED_AFTER", -3600.0)
    return last


def test_where_nothing_was_born_a_reader_costs_no_sample(births: list[int]) -> None:
    async def scene(sampler: ProcessSampler, observer: Observer) -> None:
        for _ in range(20):
            await sampler.refresh()
        assert len(observer.samples) == 1

    run(scene)


def test_readers_that_come_together_share_a_sample(births: list[int]) -> None:
    async def scene(sampler: ProcessSampler, observer: Observer) -> None:
        births.append(101)
        await asyncio.gather(*(sampler.refresh() for _ in range(20)))
        assert len(observer.samples) == 2

    run(scene)


def test_samples_for_readers_keep_their_distance(births: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "REFRESH_EVERY", 0.1)

    async def scene(sampler: ProcessSampler, observer: Observer) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(3):
            births.append(101 + number)
            await sampler.refresh()
        assert len(observer.samples) == 4
        assert loop.time() - began >= 0.2  # the sample before the first of these is older than ``began``

    run(scene)


def test_what_was_born_before_the_question_is_known_to_the_answer() -> None:
    """The real counter: each of these is born right after a sample, and may have been forked when it was taken."""

    async def scene(sampler: ProcessSampler, observer: Observer) -> None:
        for _ in range(20):
            process = subprocess.Popen(["sleep", "60"])
            try:
                await sampler.refresh()
                assert process.pid in observer.samples[-1].table
            finally:
                process.kill()
                process.wait()

    run(scene)


def test_what_may_still_be_before_its_exec_is_read_again(births: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SETTLED_AFTER", 3600.0)

    async def scene(sampler: ProcessSampler, observer: Observer) -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            sampler.sample()
            before = len(observer.samples)
            await sampler.refresh()
            assert len(observer.samples) == before + 1
            process.kill()

    run(scene)
