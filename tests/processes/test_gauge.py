"""Memory of processes that no cgroup accounts for: read without waiting for one that does not answer, and when."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from helpers import wait_for
from oomless.contain.limits.poll_interval import CEILING, FLOOR, PollInterval
from oomless.platform import proc, pss

pytestmark = [pytest.mark.as_user, pytest.mark.machine]  # answers within 0.25 s are waited for

MB = 10**6
#: 64 MB that a forked child has too, without a copy of its own.
SHARES = """
import os, sys
held = bytearray(b"x") * 64_000_000
child = os.fork()
if child == 0:
    os.read(0, 1)
    os._exit(0)
print(child, flush=True)
os.read(0, 1)
os._exit(0)
"""


@contextmanager
def pair() -> Iterator[list[proc.Stat]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SHARES], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            stats = [proc.read_stat(process.pid), proc.read_stat(child)]
            yield [stat for stat in stats if stat]
        finally:
            process.kill()
            proc.kill(child, stats[1].start if stats[1] else 0)


class Silence:
    """Some processes do not answer until ``close``: their memory maps are locked, as long as they are in fork(2) and
    get no processor. That cannot be had to order, so their files are a pipe's here; all others are the kernel's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
        self.asked = 0
        self._reader, self._writer = os.pipe()
        real = pss.read_pss

        def read(pid: int) -> int | None:
            if pid not in pids:
                return real(pid)
            self.asked += 1
            os.read(self._reader, 1)
            return real(pid)

        monkeypatch.setattr(pss, "read_pss", read)

    def close(self) -> None:
        os.close(self._writer)
        assert wait_for(lambda: all(one.ended for one in pss._waiting), 5)
        os.close(self._reader)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_pages_that_two_have_are_counted_once() -> None:
    with pair() as stats:
        used, source = pss.measure_pss(stats)
    assert (64 * MB < used < 90 * MB, source) == (True, "pss")


def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    stats = stack.enter_context(pair())
    whole, _ = pss.measure_pss(stats)
    silence = Silence(monkeypatch, stats[0].pid)
    stack.callback(silence.close)
    began = time.monotonic()
    used, source = pss.measure_pss(stats)
    assert time.monotonic() - began < pss.PATIENCE_IN_ALL
    assert source == "pss+anon"
    assert whole < used < 1.7 * whole  # half of what both have is the other's PSS, and all of it is in this one's
    began = time.monotonic()
    assert pss.measure_pss(stats) == (used, source)
    assert time.monotonic() - began < pss.PATIENCE  # it is not asked again
    assert silence.asked == 1


def test_what_several_have_inherited_is_counted_once_if_none_answers(
    monkeypatch: pytest.MonkeyPatch, stack: ExitStack
) -> None:
    stats = stack.enter_context(pair())
    silence = Silence(monkeypatch, *(stat.pid for stat in stats))
    stack.callback(silence.close)
    used, source = pss.measure_pss(stats)
    assert (64 * MB < used < 90 * MB, source) == (True, "pss+anon")


def test_one_that_answers_late_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pair() as stats:
        silence = Silence(monkeypatch, stats[0].pid)
        try:
            assert pss.measure_pss(stats)[1] == "pss+anon"
        finally:
            silence.close()
        monkeypatch.undo()
        assert pss.measure_pss(stats)[1] == "pss"


def grow(rate: float, most: int, first: float) -> int:
    """What a tree of that growth (bytes a second) uses when a look finds it over its limit."""
    pace, now, used, looks = PollInterval(most), first, int(rate * first), 0
    while used <= most:
        now += pace.seconds(now, used)
        used = int(rate * now)
        looks += 1
        assert looks < 1000
    return used


@pytest.mark.parametrize("rate", [50 * MB, 200 * MB, 500 * MB, 1000 * MB, 1400 * MB])
def test_steady_growth_is_met_where_it_passes_the_limit(rate: int) -> None:
    most = 512 * MB
    over = [grow(rate, most, first / 1000) / most for first in range(40)]
    assert statistics.median(over) <= 1.0 + 0.008 * rate / 1000 / MB + 0.006
    assert max(over) <= 1.03


def test_looks_are_rare_far_from_the_limit_and_never_closer_than_the_floor() -> None:
    pace = PollInterval(10**10)
    assert pace.seconds(0.0, 10**6) == CEILING
    assert pace.seconds(1.0, 10**10 - 1) == FLOOR
    assert pace.seconds(1.05, 10**10 + 10**9) == FLOOR
