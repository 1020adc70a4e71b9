"""macOS' own side of ``platform/``: layouts, what is read from answers that are refused, cut or odd, and the calls.

The answers are built from Apple's published headers, not recorded on a Mac. What every platform must answer is in
``test_contract_platform.py``.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from darwin import layouts
from darwin.answers import BOOT, BSD, PAGE, PATHS, TASK_ALL, Answers
from oomless import catalog
from oomless.census import attribution, snapshot, verdicts
from oomless.census.daemon_facts import DaemonFacts
from oomless.errors import UnsupportedPlatform
from oomless.model import Footprint
from oomless.platform import current, darwin_abi, darwin_calls
from oomless.platform.darwin import Darwin
from oomless.processes import ancestry

START = 1_700_000_000_250_000
ENVIRON = [b"PATH=/bin", b"CLAUDE_CODE_SESSION_ID=0b1c", b"ANTHROPIC_API_KEY=sk-hush", b"EMPTY="]


def all_info(pid: int, **facts: Any) -> bytes:
    return layouts.bsd_info(pid, **facts) + layouts.task_info()


class TestLayouts:
    @pytest.mark.parametrize(
        ("kind", "size"),
        [
            (darwin_abi.BsdInfo, 136),
            (darwin_abi.TaskInfo, 96),
            (darwin_abi.TaskAllInfo, 232),
            (darwin_abi.VnodePath, 1176),
            (darwin_abi.VnodePaths, 2352),
            (darwin_abi.RusageV4, 296),
            (darwin_abi.KinfoProc, 648),
            (darwin_abi.VmStatistics, 152),
        ],
    )
    def test_sizes_are_those_of_the_headers(self, kind: type[ctypes.Structure], size: int) -> None:
        assert ctypes.sizeof(kind) == size

    def test_every_field_that_is_read_is_where_the_header_has_it(self) -> None:
        bsd = darwin_abi.read(darwin_abi.BsdInfo, layouts.bsd_info(7, ppid=6, uid=5, pgid=4, tdev=3, name=b"long"))
        assert bsd is not None
        assert (bsd.pid, bsd.ppid, bsd.uid, bsd.pgid, bsd.tdev, bsd.name) == (7, 6, 5, 4, 3, b"long")
        kinfo = darwin_abi.read(darwin_abi.KinfoProc, layouts.kinfo(7, ppid=6, uid=5, pgid=4, tdev=3, status=2))
        assert kinfo is not None
        assert (kinfo.pid, kinfo.ppid, kinfo.uid, kinfo.pgid, kinfo.tdev) == (7, 6, 5, 4, 3)
        assert (kinfo.status, kinfo.comm) == (2, b"login")
        usage = darwin_abi.read(darwin_abi.RusageV4, layouts.rusage(footprint=1, lifetime_max=2, resident=3, start=4))
        assert usage is not None
        assert (usage.phys_footprint, usage.lifetime_max_phys_footprint) == (1, 2)
        assert (usage.resident_size, usage.start_time, usage.exit_time) == (3, 4, 0)

    @pytest.mark.parametrize("kind", [darwin_abi.BsdInfo, darwin_abi.RusageV4, darwin_abi.VnodePaths])
    def test_a_short_answer_is_none(self, kind: type[ctypes.Structure]) -> None:
        assert darwin_abi.read(kind, b"\1" * (ctypes.sizeof(kind) - 1)) is None
        assert darwin_abi.read(kind, b"") is None

    def test_of_many_records_the_whole_ones_are_read(self) -> None:
        raw = layouts.kinfo(1) + layouts.kinfo(2) + layouts.kinfo(3)[:-1]
        assert [one.pid for one in darwin_abi.read_all(darwin_abi.KinfoProc, raw)] == [1, 2]


class TestArguments:
    @pytest.mark.parametrize("length", range(1, 18))
    def test_any_padding_behind_the_path(self, length: int) -> None:
        raw = layouts.procargs([b"node", b"server.js"], ENVIRON, path=b"/" * length)
        assert darwin_abi.parse_procargs(raw) == (tuple(ENVIRON), ("node", "server.js"))

    def test_empty_arguments_do_not_let_a_variable_in(self) -> None:
        for command in ([b"", b"-x"], [b"node", b""], [b""]):
            found = darwin_abi.parse_procargs(layouts.procargs(command, ENVIRON))
            assert found == (tuple(ENVIRON), tuple(word.decode() for word in command))

    @pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 2])
    def test_less_padding_than_expected_is_borne(self, padding: bytes) -> None:
        raw = struct.pack("<i", 2) + b"/sh\0" + padding + b"sh\0-c\0A=b\0"
        assert darwin_abi.parse_procargs(raw) == ((b"A=b",), ("sh", "-c"))

    def test_without_an_environment(self) -> None:
        assert darwin_abi.parse_procargs(layouts.procargs([b"node", b"a b"])) == ((), ("node", "a b"))

    def test_wherever_it_is_cut_nothing_is_invented(self) -> None:
        raw = layouts.procargs([b"node", b"server.js"], ENVIRON)
        for length in range(len(raw)):
            found = darwin_abi.parse_procargs(raw[:length])
            assert found.command in ((), ("node", "server.js"))
            assert found.environ == tuple(ENVIRON)[: len(found.environ)]

    @pytest.mark.parametrize("raw", [b"", b"\1\0", b"\0" * 64, b"\xff" * 64, b"\xff\xff\xff\x7f/bin/sh\0sh\0"])
    def test_rubbish_is_no_error(self, raw: bytes) -> None:
        assert darwin_abi.parse_procargs(raw) == ((), ())


@pytest.fixture
def mac() -> Answers:
    """A terminal (ours), login (root's) in it, below that a shell and a server, a zombie, one that is gone when it is
    looked at, and the kernel."""
    return Answers(
        listed=[0, 1, 300, 310, 320, 330, 340, 350],
        info={
            (0, TASK_ALL): all_info(0, flags=1, comm=b"kernel_task"),
            (300, TASK_ALL): all_info(300, comm=b"iTerm2", name=b"iTerm2"),
            (320, TASK_ALL): all_info(320, ppid=310, pgid=320, tdev=0x10000008, comm=b"zsh", seconds=1_700_000_001),
            (330, TASK_ALL): all_info(330, ppid=320, comm=b"node", name=b"chrome-devtools-mcp", status=3),
            (320, BSD): layouts.bsd_info(320),
            (340, BSD): layouts.bsd_info(340, status=layouts.ZOMBIE),
            (330, PATHS): layouts.vnode_paths("/Users/m/é".encode()),
        },
        usage={
            330: layouts.rusage(footprint=552_000_000, lifetime_max=600_000_000),
            340: layouts.rusage(footprint=9, exited=7),
        },
        arguments={
            320: layouts.procargs([b"-zsh"], None, path=b"/bin/zsh"),
            330: layouts.procargs([b"node", b"/x/chrome-devtools-mcp"], ENVIRON),
        },
        kinfo={
            1: layouts.kinfo(1, ppid=0, comm=b"launchd"),
            310: layouts.kinfo(310, ppid=300, tdev=0x10000008),
            340: layouts.kinfo(340, ppid=320, uid=501, status=layouts.ZOMBIE),
        },
        statistics=layouts.vm_statistics(free=20_000, speculative=5_000, external=200_000, purgeable=1_000),
        sessions={320: 310, 330: 310},
        devices={0x10000008: "ttys008", 0x3000002: "null"},
    )


class TestDarwin:
    def test_current_is_the_one_for_the_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("oomless.platform.darwin.System", Answers)
        monkeypatch.setattr(sys, "platform", "darwin")
        assert current().name == "darwin"

    def test_the_table_holds_all_but_the_kernel_zombies_and_who_is_gone(self, mac: Answers) -> None:
        assert {one.pid for one in Darwin(mac).processes()} == {1, 300, 310, 320, 330}

    def test_a_process_of_ours(self, mac: Answers) -> None:
        found = {one.pid: one for one in Darwin(mac).processes()}
        server, shell, terminal = found[330], found[320], found[300]
        assert (server.ppid, server.pgid, server.sid, server.uid) == (320, 330, 310, 501)
        assert (server.name, server.state, server.start) == ("chrome-devtools-mcp", "S", START)
        assert server.command == ("node", "/x/chrome-devtools-mcp")
        assert server.rss_bytes == 60_000_000
        assert (shell.terminal, server.terminal) == ("ttys008", "")
        assert (shell.name, terminal.command) == ("zsh", ("[iTerm2]",))

    def test_a_process_of_another_user_has_no_arguments_and_no_memory(self, mac: Answers) -> None:
        platform = Darwin(mac)
        login = {one.pid: one for one in platform.processes()}[310]
        assert (login.ppid, login.uid, login.name, login.command) == (300, 0, "login", ("[login]",))
        assert (login.start, login.rss_bytes, login.terminal) == (START, 0, "ttys008")
        assert platform.footprint(310) is None
        assert platform.environ(310, frozenset({"PATH"})) == {}
        assert platform.cwd(310) is None

    def test_a_number_that_is_used_again_is_not_taken_from_the_list(self, mac: Answers) -> None:
        mac.kinfo[350] = layouts.kinfo(351)
        assert Darwin(mac).identity(350) is None

    def test_identities(self, mac: Answers) -> None:
        platform = Darwin(mac)
        assert platform.boot_id() == BOOT.rstrip(b"\0").decode()
        for pid in (320, 310, 340):  # ours, another user's, a zombie
            identity = platform.identity(pid)
            assert identity is not None
            assert (identity.boot_id, identity.pid, identity.start) == (platform.boot_id(), pid, START)
        assert platform.identity(350) is None

    def test_the_lineage_goes_through_other_users_processes(self, mac: Answers) -> None:
        seen = snapshot.take_snapshot(Darwin(mac))
        assert tuple(ancestry.Ancestry(seen.processes).ancestors(320)) == (310, 300, 1)

    def test_marks_are_read_and_nothing_else_of_the_environment(self, mac: Answers) -> None:
        seen = snapshot.take_snapshot(Darwin(mac))
        marks = {one.pid: found for one, found in zip(seen.processes, seen.marks, strict=True)}
        assert marks[330].session == "0b1c"
        assert Darwin(mac).environ(330, frozenset({"EMPTY", "PAT"})) == {"EMPTY": ""}
        assert Darwin(mac).environ(320, frozenset({"PATH"})) == {}  # a program of the system

    def test_a_footprint_is_phys_footprint(self, mac: Answers) -> None:
        assert Darwin(mac).footprint(330) == Footprint(bytes=552_000_000, source="phys_footprint")
        assert Darwin(mac).footprint(340) is None  # a zombie: the figure is of its end

    def test_the_working_folder(self, mac: Answers) -> None:
        assert Darwin(mac).cwd(330) == "/Users/m/é"
        mac.info[330, PATHS] = layouts.vnode_paths(b"")
        assert Darwin(mac).cwd(330) is None

    def test_nobody_is_said_to_have_lost_its_stdin(self, mac: Answers) -> None:
        """Two of one server under one live session: by order of start alone the elder would be superseded."""
        mac.listed = [1, 400, 410, 420]
        for pid, name, later in ((400, b"claude", 0), (410, b"node", 1), (420, b"node", 60)):
            mac.info[pid, TASK_ALL] = all_info(
                pid, ppid=400 if later else 1, comm=name, seconds=1_700_000_000 + later
            )
            mac.info[pid, BSD] = mac.info[pid, TASK_ALL][:136]
            words = [b"node", b"/n/.bin/chrome-devtools-mcp"] if later else [b"claude"]
            mac.arguments[pid] = layouts.procargs(words, [])
        seen = snapshot.take_snapshot(Darwin(mac))
        known = catalog.CachedCatalog(catalog.load(None).programs)
        found = attribution.attribute(seen, (), known, DaemonFacts())
        asked = verdicts.select_doubtful(found, seen)
        assert {one.pid for one in asked} == {410, 420}
        standings = snapshot.read_standings(Darwin(mac), asked)
        assert {one.verdict for one in verdicts.decide(found, seen, standings)} == {"owned"}
        (older,) = (one for one in verdicts.decide(found, seen, {}) if one.verdict == "superseded")
        assert "started it at least 59 s later" in older.evidence[0]

    def test_servers_that_start_together_are_no_generations(self, mac: Answers) -> None:
        """Start times count microseconds: 60,000 of them are no ten minutes."""
        mac.listed = [1, 400, 410, 420]
        for pid, microseconds in ((400, 0), (410, 1_000), (420, 61_000)):
            mac.info[pid, TASK_ALL] = all_info(pid, ppid=1 if pid == 400 else 400, microseconds=microseconds)
            words = [b"claude"] if pid == 400 else [b"node", b"/n/.bin/chrome-devtools-mcp"]
            mac.arguments[pid] = layouts.procargs(words, [])
        seen = snapshot.take_snapshot(Darwin(mac))
        found = attribution.attribute(seen, (), catalog.CachedCatalog(catalog.load(None).programs), DaemonFacts())
        assert {one.pid for one in verdicts.select_doubtful(found, seen)} == {410, 420}
        assert {one.verdict for one in verdicts.decide(found, seen, {})} == {"owned"}

    def test_what_is_no_terminal_has_no_name(self, mac: Answers) -> None:
        mac.info[300, TASK_ALL] = all_info(300, tdev=0x3000002)
        mac.info[320, TASK_ALL] = all_info(320, tdev=0x77000001)
        assert {one.terminal for one in Darwin(mac).processes() if one.pid in (300, 320)} == {""}

    def test_memory_counts_no_page_twice(self, mac: Answers) -> None:
        memory = Darwin(mac).memory()
        assert memory.total_bytes == 16 << 30
        assert memory.available_bytes == (20_000 - 5_000 + 200_000 + 1_000) * PAGE

    @pytest.mark.parametrize("lost", ["statistics", "memory_size"])
    def test_memory_that_is_not_told_is_an_error(self, mac: Answers, lost: str) -> None:
        setattr(mac, lost, b"")
        with pytest.raises(UnsupportedPlatform, match="memory"):
            Darwin(mac).memory()


class Library:
    """libSystem as far as it is called: each function fills the buffers that it is given."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name in ("proc_listallpids", "proc_pidinfo", "proc_pid_rusage", "sysctl", "sysctlnametomib", "devname"):
            setattr(self, name, self._function(functions.get(name, lambda *a: -1)))
        self.host_statistics64 = self._function(functions.get("host_statistics64", lambda *a: 1))
        self.mach_host_self = self._function(lambda: 77)

    @staticmethod
    def _function(call: Callable[..., Any]) -> Any:
        class Function(SimpleNamespace):
            def __call__(self, *arguments: Any) -> Any:
                return call(*arguments)

        return Function()


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[..., darwin_calls.System]:
    def make(**functions: Callable[..., Any]) -> darwin_calls.System:
        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library(**functions))
        return darwin_calls.System()

    return make


def reference(pointer: Any) -> Any:
    """What ``byref`` refers to."""
    return pointer._obj


class TestSystem:
    @pytest.mark.parametrize(("answer", "name"), [(b"ttys008", "ttys008"), (None, "")])
    def test_devices_are_asked_for_as_signed_numbers(
        self, system: Callable[..., darwin_calls.System], answer: bytes | None, name: str
    ) -> None:
        asked: list[tuple[int, int]] = []

        def devname(device: int, kind: int) -> bytes | None:
            asked.append((device, kind))
            return answer

        calls = system(devname=devname)
        assert [calls.device_name(device) for device in (0x10000008, 0xF0000001)] == [name, name]
        assert asked == [(0x10000008, 0o020000), (0xF0000001 - 2**32, 0o020000)]

    def test_processes_that_start_meanwhile_are_listed(self, system: Callable[..., darwin_calls.System]) -> None:
        there = list(range(1, 10))

        def listallpids(buffer: Any, size: int) -> int:
            if buffer is None:
                told = len(there)
                there.extend(range(10, 200))
                return told
            room = size // 4
            buffer[: min(room, len(there))] = there[:room]
            return min(room, len(there))

        assert system(proc_listallpids=listallpids).pids() == list(range(1, 200))

    def test_what_is_refused_is_empty(self, system: Callable[..., darwin_calls.System]) -> None:
        calls = system(proc_pidinfo=lambda *a: 0)
        assert calls.pid_info(1, TASK_ALL, 0, 232) == b""
        assert calls.rusage(1, 4, 296) == b""
        assert calls.sysctl((1, 49, 1)) == b""
        assert calls.sysctl_by_name("kern.bootsessionuuid") == b""
        assert calls.vm_statistics() == b""
        assert calls.pids() == []

    def test_a_record_comes_as_long_as_the_kernel_says(self, system: Callable[..., darwin_calls.System]) -> None:
        def pidinfo(pid: int, flavor: int, argument: int, buffer: Any, size: int) -> int:
            buffer.raw = all_info(pid)[:size]
            return 100

        assert system(proc_pidinfo=pidinfo).pid_info(7, TASK_ALL, 0, 232) == all_info(7)[:100]

    @pytest.mark.parametrize("length", [1, 64, 4096])
    def test_sysctl(self, system: Callable[..., darwin_calls.System], length: int) -> None:
        def sysctl(mib: Any, count: int, buffer: Any, size: Any, new: None, new_size: int) -> int:
            assert list(mib) == [1, 49, 7]
            if buffer is not None:
                assert reference(size).value > length
                ctypes.memmove(buffer, b"x" * length, length)
            reference(size).value = length
            return 0

        assert system(sysctl=sysctl).sysctl((1, 49, 7)) == b"x" * length

    def test_an_answer_that_fills_the_buffer_may_be_cut(self, system: Callable[..., darwin_calls.System]) -> None:
        """KERN_PROCARGS2 then has the end of the area in it."""

        def sysctl(mib: Any, count: int, buffer: Any, size: Any, new: None, new_size: int) -> int:
            if buffer is None:
                reference(size).value = 100
            return 0  # as full as it may be

        assert system(sysctl=sysctl).sysctl((1, 49, 7)) == b""

    def test_statistics_of_the_host(self, system: Callable[..., darwin_calls.System]) -> None:
        raw = layouts.vm_statistics(free=4, speculative=3, external=2, purgeable=1)

        def statistics(host: int, flavor: int, buffer: Any, count: Any) -> int:
            assert (host, flavor, reference(count).value) == (77, 4, 38)
            ctypes.memmove(buffer, raw, len(raw))
            return 0

        assert system(host_statistics64=statistics).vm_statistics() == raw
