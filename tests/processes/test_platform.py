"""Linux's own side of ``platform/``: the choice of a platform, PSS and its fallback, control groups.

What every platform must answer is in ``test_contract_platform.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from oomless.errors import UnsupportedPlatform
from oomless.platform import cgroup, current, proc
from oomless.platform.cgroup import Mount
from oomless.platform.linux import Linux

pytestmark = pytest.mark.as_user

V1_UNLIMITED = "9223372036854771712\n"


def group(folder: Path, **files: str | int) -> Path:
    """A folder with the files of a control group; ``__`` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")
    return folder


def joined(monkeypatch: pytest.MonkeyPatch, **groups: str) -> None:
    """Has every process be in these groups; ``v2`` stands for the empty controller name."""
    found = {"" if name == "v2" else name: path for name, path in groups.items()}
    monkeypatch.setattr(proc, "cgroups", lambda pid: found)


class TestCurrent:
    def test_this_machine(self) -> None:
        assert current().name == "linux"

    def test_another_system_is_refused_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "plan9")
        with pytest.raises(UnsupportedPlatform) as caught:
            current()
        assert "plan9" in caught.value.line()
        assert "\n" not in caught.value.line()

    def test_the_package_alone_loads_nothing_typed(self) -> None:
        code = "import sys, oomless.platform, oomless.platform.proc; print('msgspec' in sys.modules)"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout == "False\n"

    def test_the_daemons_side_loads_neither_psutil_nor_the_command_line(self) -> None:
        code = (
            "import sys, oomless.platform.linux;"
            "print([m for m in ('psutil', 'typer', 'rich', 'oomless.cli') if m in sys.modules])"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout == "[]\n"


@pytest.mark.parametrize(
    ("device", "name"),
    [(0, ""), (os.makedev(136, 3), "pts/3"), (os.makedev(137, 4), "pts/260"), (os.makedev(4, 2), "tty2")],
)
def test_a_terminal_as_people_know_it(device: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = proc.read_stat(os.getpid())
    assert stat is not None
    stat.tty = device
    monkeypatch.setattr(proc, "table", lambda: {os.getpid(): stat})
    assert [one.terminal for one in Linux().processes()] == [name]


class TestFootprint:
    def test_it_is_pss_where_that_can_be_read(self) -> None:
        found = Linux().footprint(os.getpid())
        assert found is not None
        assert found.source == "pss"
        assert found.bytes == pytest.approx(psutil.Process().memory_full_info().pss, rel=0.1)

    def test_it_falls_back_to_rss_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = proc.read_file
        monkeypatch.setattr(proc, "read_file", lambda path: None if "smaps" in path else real(path))
        found = Linux().footprint(os.getpid())
        assert found is not None
        assert (found.source, found.private_bytes) == ("rss", None)
        assert found.bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)

    def test_a_kernel_thread_has_none_and_is_not_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fields = ["S", "2", "0", "0", "0", *["0"] * 14, "77", "0", "0"]
        stat = proc.Stat(f"4242 (kworker/0:1) {' '.join(fields)}".encode())
        monkeypatch.setattr(proc, "table", lambda: {4242: stat})
        monkeypatch.setattr(proc, "read_stat", lambda pid: stat)
        monkeypatch.setattr(proc, "read_file", lambda path: None)
        platform = Linux()
        assert platform.processes() == []
        assert platform.footprint(4242) is None

    def test_no_meminfo_is_one_clear_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proc, "read_file", lambda path: None)
        with pytest.raises(UnsupportedPlatform, match="meminfo"):
            Linux().memory()


class TestHeadroom:
    def test_v1_takes_the_tightest_of_all_ancestors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        group(tmp_path, memory__limit_in_bytes=V1_UNLIMITED, memory__usage_in_bytes=900)
        group(tmp_path, memory__stat="total_inactive_file 0")
        stat = "inactive_file 1\ntotal_inactive_file 300"
        group(tmp_path / "a", memory__limit_in_bytes=1000, memory__usage_in_bytes=800, memory__stat=stat)
        group(tmp_path / "a/b", memory__limit_in_bytes=9000, memory__usage_in_bytes=100, memory__stat=stat)
        joined(monkeypatch, memory="/a/b")
        assert cgroup.headroom(1, [Mount("memory", "/", str(tmp_path))]) == 1000 - (800 - 300)

    def test_v2_takes_the_tightest_of_all_ancestors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        group(tmp_path / "a", memory__max=1000, memory__current=600, memory__stat="anon 5\ninactive_file 50")
        group(tmp_path / "a/b", memory__max="max", memory__current=10, memory__stat="inactive_file 0")
        joined(monkeypatch, v2="/a/b")
        assert cgroup.headroom(1, [Mount("", "/", str(tmp_path))]) == 1000 - (600 - 50)

    def test_no_limit_anywhere_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = group(tmp_path / "1", memory__limit_in_bytes=V1_UNLIMITED, memory__usage_in_bytes=9)
        group(one, memory__stat="total_inactive_file 0")
        group(tmp_path / "2", memory__max="max", memory__current=10, memory__stat="inactive_file 0")
        joined(monkeypatch, memory="/", v2="/")
        mounts = [Mount("memory", "/", str(one)), Mount("", "/", str(tmp_path / "2"))]
        assert cgroup.headroom(1, mounts) is None

    def test_over_the_limit_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        group(tmp_path, memory__max=100, memory__current=160, memory__stat="inactive_file 0")
        joined(monkeypatch, v2="/")
        assert cgroup.headroom(1, [Mount("", "/", str(tmp_path))]) == 0

    def test_a_container_sees_its_own_part_of_the_hierarchy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group(tmp_path, memory__max=100, memory__current=60, memory__stat="inactive_file 0")
        mounts = [Mount("", "/docker/c1", str(tmp_path))]
        for path, expected in (("/docker/c1", 40), ("/docker/c1/gone", 40), ("/docker/c10", None)):
            joined(monkeypatch, v2=path)
            assert cgroup.headroom(1, mounts) == expected
        joined(monkeypatch, v2="/../c2")
        assert cgroup.headroom(1, [Mount("", "/", str(tmp_path))]) is None


class TestMounts:
    def test_memory_hierarchies_of_both_versions(self) -> None:
        text = (
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
            "35 31 0:32 /docker/c1 /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cg\\040two rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
            "broken\n"
        )
        assert [(m.controller, m.root, m.point) for m in cgroup.parse_mounts(text)] == [
            ("memory", "/docker/c1", "/sys/fs/cgroup/memory"),
            ("", "/", "/sys/fs/cg two"),
        ]

    def test_this_machines_mounts_are_folders(self) -> None:
        for mount in cgroup.read_mounts():
            assert os.path.isdir(mount.point)


class TestCgroupFootprint:
    def test_v1(self, tmp_path: Path) -> None:
        group(tmp_path, memory__usage_in_bytes=900, memory__max_usage_in_bytes=2000)
        group(tmp_path, memory__stat="inactive_file 1\ntotal_inactive_file 300")
        found = Linux().cgroup_footprint({"memory": str(tmp_path), "pids": "/nowhere", "": "/nowhere"})
        assert found is not None
        assert (found.used, found.peak) == (600, 2000)

    def test_v2_without_a_peak_file(self, tmp_path: Path) -> None:
        group(tmp_path, memory__current=900, memory__stat="inactive_file 300")
        found = Linux().cgroup_footprint({"": str(tmp_path)})
        assert found is not None
        assert (found.used, found.peak) == (600, None)

    def test_a_group_that_is_gone_or_counts_nothing(self, tmp_path: Path) -> None:
        assert Linux().cgroup_footprint({"memory": str(tmp_path / "gone"), "": str(tmp_path)}) is None

    def test_a_real_group_counts_its_member(self) -> None:
        point = next((m.point for m in cgroup.read_mounts() if m.controller == "memory"), None)
        if point is None or not os.access(point, os.W_OK):
            pytest.skip("no v1 memory hierarchy that can be written here")
        folder = os.path.join(point, f"oomless-test-{os.getpid()}")
        os.mkdir(folder)
        code = (
            f"open({folder + '/cgroup.procs'!r}, 'w').write('0');"
            "data = bytearray(40_000_000); print('ready', flush=True); input()"
        )
        pipe = subprocess.PIPE
        try:
            with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
                assert child.stdout is not None
                assert child.stdin is not None
                assert child.stdout.readline() == b"ready\n"
                found = Linux().cgroup_footprint({"memory": folder})
                child.stdin.write(b"\n")
        finally:
            os.rmdir(folder)
        assert found is not None
        assert found.peak is not None
        assert 40_000_000 < found.used < 60_000_000
        assert found.peak >= found.used
