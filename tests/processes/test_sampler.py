"""The sampler: the same table as without kept descriptors, however processes come and go, and within its bound."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from leaks import open_descriptors
from oomless.platform import proc
from oomless.platform.table_reader import TableReader

assert sys.platform == "linux"


@pytest.fixture
def sampler() -> Iterator[TableReader]:
    made = TableReader()
    yield made
    made.close()


def kept() -> list[str]:
    return [name for name in open_descriptors().values() if name.startswith("/proc/") and name.endswith("/stat")]


def test_it_reads_what_the_table_reads(sampler: TableReader) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            for _ in range(2):
                found, plain = sampler.read()[child.pid], proc.read_stat(child.pid)
                assert plain is not None
                for field in ("pid", "ppid", "pgid", "sid", "tty", "start", "comm"):
                    assert getattr(found, field) == getattr(plain, field)
        finally:
            child.kill()


def test_who_is_new_or_gone_or_changed_is_seen(sampler: TableReader) -> None:
    before = sampler.read()
    with subprocess.Popen(["sh", "-c", "echo; read x; exec sleep 60"], stdin=subprocess.PIPE, stdout=-1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid not in before
        assert sampler.read()[child.pid].comm == "sh"
        child.stdin.write(b"\n")
        child.stdin.close()
        while sampler.read()[child.pid].comm != "sleep":
            pass
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not sampler.read()[child.pid].alive
    assert child.pid not in sampler.read()
    assert f"/proc/{child.pid}/stat" not in kept()


def test_a_number_that_is_in_use_again_is_read_anew(sampler: TableReader) -> None:
    """The kept descriptor is of the process before, as if the number had come round between two looks."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        sampler.read()
        gone = subprocess.Popen(["sleep", "60"])
        sampler.read()
        mine, other = sampler._kept[str(child.pid)], sampler._kept[str(gone.pid)]
        mine.fd, other.fd = other.fd, mine.fd
        gone.kill()
        gone.wait(10)
        found = sampler.read()
        assert found[child.pid].pid == child.pid
        assert found[child.pid].start == proc.start_of(child.pid)
        assert gone.pid not in found
    finally:
        child.kill()
        child.wait(10)


@pytest.mark.parametrize("most", [0, 3])
def test_no_more_descriptors_than_allowed_and_the_same_table(most: int) -> None:
    bounded = TableReader(most)
    try:
        for _ in range(2):
            assert os.getpid() in bounded.read()
            assert 1 in bounded.read()
            assert len(kept()) == most
    finally:
        bounded.close()
    assert kept() == []


def test_half_of_the_limit_is_kept_at_most(sampler: TableReader) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        small = TableReader()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(40)]
    try:
        assert {child.pid for child in children} <= small.read().keys()
        assert len(kept()) == 32
    finally:
        small.close()
        for child in children:
            child.kill()
            child.wait(10)


def test_what_cannot_be_read_is_no_error(sampler: TableReader, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        sampler.read()
        plain = os.open

        def refusing(path: str, *rest: int) -> int:
            if path == f"/proc/{os.getpid()}/stat":
                raise PermissionError(13, "refused")
            return plain(path, *rest)

        sampler.close()
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refusing)
            found = sampler.read()
        assert os.getpid() not in found
        assert child.pid in found
        child.kill()


def test_a_line_that_reads_as_before_is_not_parsed_again(sampler: TableReader) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        while sampler.read()[child.pid].comm != "sleep":
            pass
        try:
            before = [sampler.read()[child.pid] for _ in range(3)]
            assert before[1] is before[2]
        finally:
            child.kill()
