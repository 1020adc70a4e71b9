"""``oomless reap`` with real processes: what is proposed, who is ended, who is refused, and the record of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import alive, is_error_report, run_oomless, wait_for, wait_gone
from hosting import Host, settings
from oomless.census.attribution import Attributed
from oomless.config import load_project_settings, load_settings
from oomless.errors import ConfigError, DaemonError
from oomless.model import Footprint, MachineMemory, ProcessInfo
from oomless.paths import Paths
from oomless.platform import proc
from oomless.processes.kill import KILLED, TERMED, KillRounds
from oomless.protocol.client import Client
from oomless.protocol.reap_views import PROVEN, ReapAnswer, ReapItem, ReapRequest
from oomless.protocol.views import StatusView
from oomless.reports.look import Scan
from oomless.reports.reap import propose
from oomless.reports.scan import build_scan
from reaping import ORPHAN, records
from sessions import Session, member

assert sys.platform == "linux"

pytestmark = [pytest.mark.as_user, pytest.mark.machine]

Who = tuple[int, int]
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"T"))
os.write(1, b"R")
while True:
    signal.pause()
"""


def identity(pid: int) -> Who:
    start = proc.start_of(pid)
    assert start is not None
    return pid, start


class Started:
    """A process of the test, with a pipe from its stdout."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self.who = identity(self.process.pid)

    def read(self) -> bytes:
        return os.read(self.out.fileno(), 1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.out.close()


@pytest.fixture
def started() -> Iterator[list[Started]]:
    found: list[Started] = []
    yield found
    for one in found:
        one.close()


def start(started: list[Started], code: str = STUBBORN) -> Started:
    one = Started(code)
    started.append(one)
    assert one.read() == b"R"
    return one


def polite(started: list[Started]) -> Started:
    return start(started, "import os, time; os.write(1, b'R'); time.sleep(60)")


def ask(*items: ReapItem, include: tuple[str, ...] = ()) -> ReapAnswer:
    return Client(Paths(), start=True).reap(ReapRequest(processes=items, why="a test", include=include))


def item(who: Who, verdict: str = "orphan") -> ReapItem:
    return ReapItem(pid=who[0], start=who[1], verdict=verdict, evidence=("seen",))


# The daemon's part


def test_ends_what_is_named_and_writes_how(started: list[Started]) -> None:
    one, other = polite(started), polite(started)
    answer = ask(item(one.who))
    assert [(e.pid, e.how) for e in answer.ended] == [(one.who[0], TERMED)]
    assert not alive(*one.who)
    assert alive(*other.who)
    assert answer.bytes_freed > 0
    assert answer.bytes_source == "pss"
    (row,) = records()
    assert (row.why, row.session, row.bytes_freed) == ("a test", "", answer.bytes_freed)
    assert [(e.pid, e.start, e.why) for e in row.ended] == [(*one.who, f"orphan (seen): {TERMED}")]


def test_who_ignores_term_is_killed(started: list[Started]) -> None:
    one = start(started)
    answer = ask(item(one.who))
    assert [e.how for e in answer.ended] == [KILLED]
    assert one.read() == b"T", "TERM came first"
    assert one.process.wait(10) == -signal.SIGKILL


def test_another_start_time_is_another_process(started: list[Started]) -> None:
    one = polite(started)
    answer = ask(item((one.who[0], one.who[1] - 1)))
    assert answer.ended == ()
    assert "another process by now" in answer.refused[0].why
    assert alive(*one.who)
    assert [r.pid for r in records()[0].refused] == [one.who[0]]


@pytest.mark.parametrize("verdict", ["owned", "protected", "unknown", "detached", "duplicate", ""])
def test_no_other_verdict_is_a_reason(started: list[Started], verdict: str) -> None:
    one = polite(started)
    answer = ask(item(one.who, verdict), include=("protected", "owned", "unknown", ""))
    assert [r.pid for r in answer.refused] == [one.who[0]]
    assert alive(*one.who)


def test_included_verdicts_are_ended(started: list[Started]) -> None:
    one, other = polite(started), polite(started)
    ask(item(one.who, "duplicate"), item(other.who, "detached"), include=("duplicate",))
    assert not alive(*one.who)
    assert alive(*other.who)


def test_a_client_of_an_earlier_version_calls_detached_left_running(started: list[Started]) -> None:
    process, other = polite(started), polite(started)
    ask(item(process.who, "left-running"), include=("left-running",))
    assert not alive(*process.who)
    ask(item(other.who, "left-running"))
    assert alive(*other.who)


def test_refuses_itself_and_init_and_sessions(started: list[Started]) -> None:
    host, one = Host(), polite(started)
    assert host.register("s", one.process.pid) == 200
    pid = host.status().pid
    assert pid is not None
    answer = ask(item(identity(pid)), item((1, proc.start_of(1) or 0)), item(one.who))
    reasons = {r.pid: r.why for r in answer.refused}
    assert "the daemon itself" in reasons[pid]
    assert "first process" in reasons[1]
    assert "session that lives" in reasons[one.who[0]]
    assert alive(*one.who)


def test_refuses_a_session_that_nobody_registered(tmp_path: Path) -> None:
    """Whatever verdict somebody sends for it."""
    script = tmp_path / "claude"
    script.write_text("import sys; sys.stdin.read()")
    host = Host()
    with subprocess.Popen([sys.executable, "-I", "-S", str(script)], stdin=subprocess.PIPE) as session:
        who = identity(session.pid)
        assert wait_for(lambda: proc.cmdline(session.pid)[-1:] == [str(script)], 10)
        answer = ask(item(who))
        assert [(one.pid, one.why) for one in answer.refused] == [
            (who[0], "it is the process of a session that lives")
        ]
        assert alive(*who)
    assert host.status().pid is not None


def test_refuses_what_is_protected(started: list[Started]) -> None:
    sleep = subprocess.Popen(["/usr/share/code/code", "60"], executable="/bin/sleep")
    try:
        answer = ask(item(identity(sleep.pid)))
        assert "is never killed" in answer.refused[0].why
        assert sleep.poll() is None
    finally:
        sleep.kill()
        sleep.wait(10)


@pytest.mark.root
def test_refuses_what_is_another_users() -> None:
    sleep = subprocess.Popen(["/bin/sleep", "60"], user=65534)
    try:
        answer = ask(item(identity(sleep.pid)))
        assert "another user" in answer.refused[0].why
        assert sleep.poll() is None
    finally:
        sleep.kill()
        sleep.wait(10)


def test_refuses_members_of_governed_trees(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    run = subprocess.Popen([sys.executable, "-m", "oomless", "run", "--", sys.executable, "-c", code])
    try:
        assert wait_for(lambda: note.exists() and note.read_text(), 20)
        who = identity(int(note.read_text()))
        answer = ask(item(who))
        assert "governed tree" in answer.refused[0].why
        assert alive(*who)
    finally:
        run.terminate()
        run.wait(20)


def test_who_has_gone_is_no_failure(started: list[Started]) -> None:
    one = polite(started)
    one.close()
    answer = ask(item(one.who))
    assert (answer.refused, answer.left, answer.bytes_freed) == ((), (), 0)
    assert "by itself" in answer.ended[0].how


def test_a_child_that_is_born_meanwhile_is_ended_too(started: list[Started]) -> None:
    """And one that was there before, and is not named, stays."""
    code = """
    import os, signal, time
    def more(*_):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(60)
        os._exit(0)
    signal.signal(signal.SIGTERM, more)
    os.write(1, b"R")
    while True:
        signal.pause()
    """
    one = start(started, textwrap.dedent(code))
    (before,) = [s for s in proc.table().values() if s.ppid == one.who[0]]
    try:
        answer = ask(item(one.who))
        assert len(answer.ended) == 2
        assert all(not alive(e.pid, e.start) for e in answer.ended)
        assert alive(before.pid, before.start)
    finally:
        proc.kill(before.pid, before.start)
        wait_gone(before.pid, before.start, 10)


def made_up(pid: int, ppid: int, pgid: int, start: int) -> proc.Stat:
    fields = ["0"] * 22
    fields[0], fields[1], fields[2], fields[3], fields[19] = "S", str(ppid), str(pgid), "1", str(start)
    return proc.Stat(f"{pid} (x) {' '.join(fields)}".encode())


@pytest.mark.parametrize("again", [False, True])
def test_the_number_of_a_group_that_is_used_again_names_strangers(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Numbers that no process can have: who leads the group, is ended, and its child, whose parent has died."""
    one, two = 2**23, 2**23 + 1
    leader, child = made_up(one, 1, one, 5), made_up(two, 1, one, 7)
    tables = iter([{one: leader}, {one: made_up(one, 1, one, 6) if again else leader, two: child}])
    with monkeypatch.context() as patched:
        patched.setattr(proc, "table", lambda: next(tables))
        reap = KillRounds([(one, 5)], lambda stat: False)
        reap.step(hard=False)
    assert reap.born == (set() if again else {(two, 7)})


@pytest.mark.root
def test_a_pid_that_is_used_again_is_never_signalled() -> None:
    """Forced: in a pid namespace of its own the next number is written to ns_last_pid."""
    script = f"""
    import os, sys, signal, time
    sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
    from oomless.processes.kill import KillRounds
    from oomless.platform import proc
    def start():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        return pid
    old = start()
    who = (old, proc.start_of(old))
    os.kill(old, signal.SIGKILL); os.waitpid(old, 0)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        open("/proc/sys/kernel/ns_last_pid", "w").write(str(old - 1))
        new = start()
        if new == old and proc.start_of(new) != who[1]:
            break
        os.kill(new, signal.SIGKILL); os.waitpid(new, 0)
    assert new == old and proc.start_of(new) != who[1], "the number was not used again"
    reap = KillRounds([who], lambda stat: False)
    while not reap.step(hard=True):
        pass
    assert reap.how == {{}} and os.waitpid(new, os.WNOHANG) == (0, 0)
    os.kill(new, signal.SIGKILL); os.waitpid(new, 0)
    print("unharmed")
    """
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "unharmed\n", done.stderr


# The command


@pytest.fixture
def orphan() -> Iterator[Who]:
    """A known server, its session gone, nobody at the other end of its stdin."""
    argv = [sys.executable, "-I", "-S", "-c", ORPHAN, "/bin/sleep", "mcp-server-memory", "60"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    who = identity(int(done.stdout))
    yield who
    proc.kill(*who)
    wait_gone(*who, 10)


def test_a_dry_run_signals_nobody_and_starts_nothing(orphan: Who) -> None:
    done = run_oomless("reap", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["schema"], found["dry_run"], found["ended"]) == (0, "oomless.reap/1", True, [])
    (mine,) = [one for one in found["proposed"] if one["pid"] == orphan[0]]
    assert (mine["start"], mine["verdict"]) == (orphan[1], "orphan")
    assert mine["evidence"]
    assert alive(*orphan)
    assert Client(Paths(), start=False).status().pid is None


def test_the_table_says_what_and_why(orphan: Who) -> None:
    shown = run_oomless("reap").stdout
    line = next(line for line in shown.splitlines() if line.split()[:1] == [str(orphan[0])])
    assert "orphan" in line
    assert len(line) > len(f"{orphan[0]} mcp-server-memory: mcp-server-memory 60 orphan") + 40, "no evidence"
    assert "to kill, frees at least" in shown


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--include", "protected"), "never killed"),
        (("--include", "x"), "detached and duplicate"),
        (("--include", ","), "names no verdict"),
    ],
)
def test_a_wrong_include_is_a_usage_error(args: tuple[str, ...], says: str) -> None:
    done = run_oomless("reap", *args)
    assert done.returncode == 2
    assert says in done.stderr
    assert is_error_report(done.stderr)


def test_without_a_daemon_that_answers_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DaemonError, match="no daemon runs"):
        Client(Paths(), start=False).reap(ReapRequest(processes=(), why="x"))


# With --yes, in a pid namespace of its own: it would end what others left on this machine as well

PRELUDE = f"""
import json, os, signal, subprocess, sys
sys.path[:0] = [{str(Path(__file__).parents[1] / "support")!r}, {str(Path(__file__).parents[2] / "src")!r}]
from helpers import alive, run_oomless, wait_gone
from oomless.platform import proc
from sessions import Session, member
from reaping import ORPHAN, records
def leave(*argv):
    argv = [sys.executable, "-I", "-S", "-c", ORPHAN, *argv]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout), proc.start_of(int(done.stdout))
def say(**fields):
    print(json.dumps(fields))
"""


def in_namespace(script: str) -> dict[str, object]:
    inside = [sys.executable, "-c", PRELUDE + textwrap.dedent(script)]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace may be made here")
    done = subprocess.run([*unshare, *inside], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_yes_ends_the_orphan_and_not_its_twin() -> None:
    found = in_namespace(r"""
        orphan = leave("/bin/sleep", "mcp-server-memory", "60")
        twin = subprocess.Popen(["mcp-server-memory", "60"], executable="/bin/sleep", stdin=subprocess.PIPE)
        done = run_oomless("reap", "--yes", "--json")
        report = json.loads(done.stdout)
        say(code=done.returncode, pid=orphan[0], ended=[one["pid"] for one in report["ended"]],
            orphan=alive(*orphan), twin=twin.poll() is None, freed=report["bytes_freed"],
            journal=[(one.pid, one.why) for row in records() for one in row.ended])
    """)
    assert (found["code"], found["ended"], found["orphan"], found["twin"]) == (0, [found["pid"]], False, True)
    assert isinstance(found["freed"], int)
    assert found["freed"] > 0
    journal = str(found["journal"])
    assert f"[{found['pid']}, 'orphan (" in journal
    assert TERMED in journal


def test_ctrl_c_ends_the_command_and_what_was_asked_is_done() -> None:
    found = in_namespace(r"""
        note, write = os.pipe()
        os.set_inheritable(write, True)
        code = f"import os, signal; signal.signal(15, lambda *_: os.write({write}, b'T')); os.write({write}, b'R')"
        argv = [sys.executable, "-I", "-S", "-c", ORPHAN, sys.executable, "mcp-server-memory", "-I", "-c"]
        argv.append(code + "\nwhile True: signal.pause()")
        done = subprocess.run(argv, pass_fds=[write], stdout=subprocess.PIPE, text=True, check=True)
        who = int(done.stdout), proc.start_of(int(done.stdout))
        assert os.read(note, 1) == b"R"
        command = subprocess.Popen([sys.executable, "-m", "oomless", "reap", "--yes"])
        assert os.read(note, 1) == b"T"
        command.send_signal(signal.SIGINT)
        code = command.wait(20)
        gone = wait_gone(*who, 20)
        stopped = run_oomless("daemon", "stop").returncode
        say(code=code, gone=gone, stopped=stopped, how=[one.why for row in records() for one in row.ended])
    """)
    assert (found["code"], found["gone"], found["stopped"]) == (130, True, 0)
    assert KILLED in str(found["how"])


def test_a_daemon_that_cannot_start_ends_nobody() -> None:
    found = in_namespace(r"""
        orphan = leave("/bin/sleep", "mcp-server-memory", "60")
        done = run_oomless("reap", "--yes", env={"XDG_STATE_HOME": "/proc/nowhere"})
        say(code=done.returncode, lives=alive(*orphan), error=done.stderr)
    """)
    assert (found["code"], found["lives"]) == (125, True)
    assert is_error_report(str(found["error"]))


# The setting


@pytest.mark.parametrize("word", ["proven", "ask", "off"])
def test_the_setting(word: str) -> None:
    settings(f'reap = "{word}"')
    assert load_settings(Paths().config_file).reap == word


def test_the_setting_is_proven_by_default_and_the_users_own(tmp_path: Path) -> None:
    assert load_settings(Paths().config_file).reap == "proven"
    settings('reap = "always"')
    with pytest.raises(ConfigError, match="proven, ask, off"):
        load_settings(Paths().config_file)
    (tmp_path / "oomless.toml").write_text('reap = "off"')
    with pytest.raises(ConfigError, match="only tighten"):
        load_project_settings(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("word", ["ask", "off"])
def test_a_registered_session_leaves_what_it_left_if_the_settings_say_so(tmp_path: Path, word: str) -> None:
    settings(f'reap = "{word}"')
    host, roster = Host(), tmp_path / "roster"
    with Session(None) as session:
        assert host.register("s", session.pid) == 200
        pid = session.server(member("waits", str(roster)))
        assert wait_for(roster.exists, 20)
        who = identity(pid)
        host.status()  # the daemon looks
        session.end("KILL")
    assert wait_for(lambda: [one.pid for one in host.status().leftovers] == [pid], 20)
    (left,) = host.status().leftovers
    assert (left.spared, left.session, left.root) == ("", "s", session.pid)
    assert alive(*who)
    answer = ask(item(who))
    assert [one.pid for one in answer.ended] == [pid]


@pytest.mark.parametrize(("confidence", "proposed"), [(0.9, True), (0.6, False)])
def test_what_is_superseded_by_its_start_alone_is_held_back(confidence: float, proposed: bool) -> None:
    process = ProcessInfo(
        pid=70, ppid=1, pgid=70, sid=70, tty=0, start=7, uid=0, state="S", name="x", command=("x",), rss_bytes=1
    )
    one = Attributed(
        process=process, kind="server", verdict="superseded", confidence=confidence, server="x", instance=70,
        evidence=("its session started another",),
    )  # fmt: skip
    footprints = {70: Footprint(bytes=1, source="pss")}
    memory = MachineMemory(total_bytes=100, available_bytes=90)
    status = StatusView(pid=None, memory=memory)
    found, held = propose(Scan(build_scan((one,), footprints, memory), {70: one}, footprints, status), PROVEN)
    assert [each.pid for each in found] == ([70] if proposed else [])
    assert [each.pid for each in held] == ([] if proposed else [70])
    assert proposed or "60%" in held[0].why
