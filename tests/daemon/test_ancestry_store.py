"""What is remembered of sessions outlives the daemon: leftovers, and sessions that die while none runs."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from descents import CLAUDE, HOOK, SERVER, SHELL, FakeClaude, NoTrees, stat, table, told
from helpers import alive, run_oomless, wait_for, wait_gone
from hosting import Host, settings
from oomless.daemon.logs import Log
from oomless.daemon.sessions.ancestry_store import CHECKPOINT_EVERY, AncestryCheckpoint, AncestryStore
from oomless.daemon.sessions.leftovers import Leftovers
from oomless.daemon.sessions.sampling import ProcessSample
from oomless.errors import JournalError
from oomless.journal.ancestry import AncestryRow, RecordedDescendant
from oomless.journal.journal import Journal
from oomless.model import Identity
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes.descent import Descendants, Descent
from oomless.processes.detach import DAEMON
from oomless.processes.ids import ProcessId

assert sys.platform == "linux"

BOOT = "boot-1"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(str(tmp_path / "journal.db"))
    yield opened
    opened.close()


def store(journal: Journal, boot: str = BOOT) -> AncestryStore:
    return AncestryStore(journal.ancestry, boot, Log(-1))


def row(pid: int = 10, boot: str = BOOT, **more: object) -> AncestryRow:
    members = (
        RecordedDescendant(pid=20, start=20, above=(), shell_sid=None),
        RecordedDescendant(pid=31, start=31, above=((30, 30), (5, 0)), shell_sid=30, spared="it listens on a port"),
    )
    plain = AncestryRow(
        host="codex", session="s", process=Identity(boot_id=boot, pid=pid, start=pid), died_at=7.5, members=members
    )
    return AncestryRow(**{**{f: getattr(plain, f) for f in plain.__struct_fields__}, **more})


class TestRows:
    def test_what_is_kept_comes_back_and_goes(self, journal: Journal) -> None:
        rows = journal.ancestry
        rows.keep(row())
        rows.keep(row(11, died_at=None))
        assert rows.of_boot(BOOT) == [row(), row(11, died_at=None)]
        rows.keep(row(session="newer", members=()))
        assert rows.of_boot(BOOT)[0] == row(session="newer", members=())
        rows.forget(row().process)
        assert rows.of_boot(BOOT) == [row(11, died_at=None)]

    def test_of_another_boot_nobody_lives(self, journal: Journal) -> None:
        rows = journal.ancestry
        rows.keep(row(boot="boot-0"))
        assert rows.of_boot(BOOT) == []
        assert rows.of_boot("boot-0") == [], "it is gone for good"

    def test_a_damaged_row_is_named(self, journal: Journal) -> None:
        rows = journal.ancestry
        rows.keep(row())
        journal.database.write("UPDATE lineages SET members = '['")
        with pytest.raises(JournalError, match="damaged"):
            rows.of_boot(BOOT)
        assert store(journal).load() == [], "the daemon starts without it"


class TestCheckpoint:
    def checkpoint(
        self, journal: Journal, *living: Descendants
    ) -> tuple[AncestryCheckpoint, list[float], list[Descendants]]:
        now, alive = [100.0], list(living)
        checkpoint = AncestryCheckpoint(
            store(journal), lambda: [("codex", "s", one) for one in alive], lambda root: False, lambda: now[0]
        )
        return checkpoint, now, alive

    def look(self, checkpoint: AncestryCheckpoint) -> None:
        checkpoint.observe(ProcessSample({}))

    def test_a_change_is_written_twice_a_minute_and_at_the_end(self, journal: Journal) -> None:
        descendants = Descendants(ProcessId(10, 10))
        checkpoint, now, _ = self.checkpoint(journal, descendants)
        self.look(checkpoint)
        descendants.observe(table(CLAUDE, SERVER))
        self.look(checkpoint)

        def kept() -> set[ProcessId]:
            (found,) = store(journal).load()
            return set(found.descendants.descents)

        assert kept() == set()
        now[0] += CHECKPOINT_EVERY
        self.look(checkpoint)
        assert kept() == {(20, 20)}
        descendants.observe(table(CLAUDE, SERVER, SHELL))
        checkpoint.write()
        assert kept() == {(20, 20), (30, 30)}

    def test_nothing_is_written_where_nothing_has_changed(self, journal: Journal) -> None:
        descendants = Descendants(ProcessId(10, 10))
        descendants.observe(table(CLAUDE, SERVER))
        checkpoint, _, _ = self.checkpoint(journal, descendants)
        checkpoint.write()
        journal.ancestry.forget(Identity(boot_id=BOOT, pid=10, start=10))
        checkpoint.write()
        assert store(journal).load() == []

    def test_who_has_died_and_left_nothing_is_forgotten(self, journal: Journal) -> None:
        descendants = Descendants(ProcessId(10, 10))
        checkpoint, _, living = self.checkpoint(journal, descendants)
        checkpoint.write()
        living.clear()
        checkpoint.write()
        assert store(journal).load() == []

    def test_what_is_in_a_governed_tree_is_not_of_it(self, journal: Journal) -> None:
        descendants = Descendants(ProcessId(10, 10))
        descendants.observe(table(CLAUDE, SERVER, SHELL), governed={ProcessId(30, 30)})
        checkpoint, _, _ = self.checkpoint(journal, descendants)
        checkpoint.write()
        assert set(store(journal).load()[0].descendants.descents) == {(20, 20)}

    def test_a_servers_daemon_stays_one(self, journal: Journal) -> None:
        descendants = Descendants(ProcessId(10, 10))
        descendants.observe(table(CLAUDE, SERVER, stat(21, 20, 5)))
        descendants.daemons.add(ProcessId(21, 21))
        checkpoint, _, _ = self.checkpoint(journal, descendants)
        checkpoint.write()
        (found,) = store(journal).load()
        assert (found.descendants.daemons, found.detached) == ({(21, 21)}, {(21, 21): DAEMON})
        assert found.descendants.descents[ProcessId(21, 21)] == Descent(above=(ProcessId(20, 20),), shell_sid=None)


class TestTakingUp:
    """With this very process as what was left, so that facts about it can be read."""

    def leftovers(self, journal: Journal) -> Leftovers:
        return Leftovers(NoTrees(), dict, store(journal))

    def kept(self, journal: Journal, start: int, spared: str = "it was") -> None:
        parent = os.getppid()
        members = (RecordedDescendant(pid=parent, start=start, above=(), shell_sid=None, spared=spared),)
        journal.ancestry.keep(row(4_000_000, members=members))

    def test_what_lives_is_told_again_as_it_was(self, journal: Journal) -> None:
        self.kept(journal, proc.start_of(os.getppid()) or 0)
        left = self.leftovers(journal)
        (one,) = store(journal).load()
        left.restore(one, proc.table())
        told = next(view for view in left.views() if view.pid == os.getppid())
        assert (told.host, told.session, told.root, told.spared, told.since) == (
            "codex", "s", 4_000_000, "it was", 7.5,
        )  # fmt: skip
        assert left.has_root(ProcessId(4_000_000, 4_000_000))

    def test_another_process_with_that_number_is_a_stranger(self, journal: Journal) -> None:
        self.kept(journal, (proc.start_of(os.getppid()) or 0) + 1)
        left = self.leftovers(journal)
        (one,) = store(journal).load()
        left.restore(one, proc.table())
        assert not left
        assert store(journal).load() == [], "nobody of it lives"


# Real daemons


def json_of(*words: str) -> Any:
    return json.loads(run_oomless(*words).stdout)


def end_daemon(host: Host, how: str) -> None:
    pid = host.status().pid
    assert pid is not None
    start = proc.start_of(pid) or 0
    if how == "stop":
        assert run_oomless("daemon", "stop").returncode == 0
    else:
        proc.send(pid, start, signal.SIGKILL)
    assert wait_gone(pid, start, 10)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_leftovers_are_told_by_the_next_daemon(fake: Callable[..., FakeClaude], how: str) -> None:
    host = Host()
    one = fake("dying", "launcher", "nohup")
    host.status()
    who = one.who
    one.do("orphan")
    one.end(signal.SIGKILL)
    assert wait_for(lambda: {who["launched"], who["nohup"]} <= told(host, one).keys(), 5.0)
    before = told(host, one)
    end_daemon(host, how)
    after = told(Host(), one)
    assert after == before
    assert after[who["launched"]].above == (who["launcher"][0],)
    one.clean()
    assert wait_for(lambda: told(Host(), one) == {}, 5.0)
    end_daemon(Host(), "stop")
    journal = Journal.open(Paths().journal)
    try:
        assert one.process.pid not in {kept.process.pid for kept in journal.ancestry.of_boot(proc.boot_id())}
    finally:
        journal.close()


@pytest.mark.parametrize("hook", [HOOK, "true"], ids=["registered", "unregistered"])
def test_a_session_that_dies_while_no_daemon_runs(fake: Callable[..., FakeClaude], hook: str) -> None:
    """Its leftovers are told, and not ended: nobody has seen it die."""
    host = Host()
    one = fake("alone", "server", "background", "nohup", hook=hook)
    host.status()
    who = one.who
    one.do("orphan")  # whose the background command is can only be remembered
    host.status()
    end_daemon(host, "stop")
    one.end(signal.SIGKILL)
    found = told(Host(), one)
    assert {kind: found[who[kind]].spared for kind in ("server", "background", "nohup")} == {
        "server": "", "background": "", "nohup": "it ignores SIGHUP (nohup)",
    }  # fmt: skip
    assert alive(*who["server"])


def test_a_living_sessions_lineage_is_taken_up_again(fake: Callable[..., FakeClaude]) -> None:
    host = Host()
    one = fake("long", "double-fork", "server")
    host.status()
    who = one.who
    one.do("orphan")
    host.status()
    end_daemon(host, "stop")
    again = Host()
    assert told(again, one) == {}
    again.status()
    one.end(signal.SIGKILL)
    assert wait_for(lambda: {who["double-fork"], who["server"]} <= told(again, one).keys(), 5.0)


def test_ask_proposes_and_off_only_lists(fake: Callable[..., FakeClaude]) -> None:
    settings('reap = "ask"\n')
    host = Host()
    one = fake("asked", "server", "nohup", hook=HOOK)
    host.status()
    who = one.who
    server = who["server"][0]
    one.end(signal.SIGKILL)
    assert wait_for(lambda: {who["server"], who["nohup"]} <= told(host, one).keys(), 5.0)
    shown = run_oomless("status").stdout
    line = next(line for line in shown.splitlines() if line.endswith("can be killed: oomless reap"))
    assert line.startswith("1 leftover process (")
    assert "not killed because" not in shown
    assert server in {each["pid"] for each in json_of("reap", "--json")["proposed"]}
    settings('reap = "off"\n')
    assert host.status().reap == "off"
    shown = run_oomless("status").stdout
    assert "can be killed" not in shown
    assert f"  pid {server} " in shown.partition('not killed because of reap = "off":')[2]
    found = json_of("reap", "--json")
    assert server not in {each["pid"] for each in found["proposed"]}
    assert {each["pid"]: each["why"] for each in found["held_back"]}[server].startswith(
        'the settings say reap = "off"'
    )
    included = json_of("reap", "--json", "--include", "detached")
    assert who["nohup"][0] in {each["pid"] for each in included["proposed"]}, "asked for by name"
    assert alive(*who["server"])
