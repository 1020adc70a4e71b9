"""Tool shells, servers and hooks behind the shell prefix: exactly as without us while they run."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sessions
from contained import read_roster
from helpers import alive, run_oomless, wait_for, wait_gone
from oomless.hosts.claude_code import prefix
from oomless.journal.journal import Journal
from oomless.paths import Paths
from oomless.platform import proc
from oomless.protocol import spawn

#: Names a command: the command as the agent writes it.
COMMANDS = {
    "nothing": "true",
    "pipe": "seq 1000 | grep 7 | sort -rn | head -3",
    "here-document": "cat <<'EOF'\none $HOME `two`\n  three\nEOF",
    "here-string": "tr a-z A-Z <<< 'quiet please'",
    "kills itself hard": "echo before; kill -KILL $$; echo after",
    "kills itself softly": "echo before; kill -TERM $$; echo after",
    "hangs itself up": "kill -HUP $$",
    "interrupts itself": "kill -INT $$; echo survived",
    "a child is killed": "x=$(sh -c 'kill -KILL $$'); echo $?",
    "its group is signalled": "trap 'echo got it' TERM; kill -TERM 0; echo after",
    "traps a signal": "trap 'echo trapped; exit 9' USR1; kill -USR1 $$; sleep 5",
    "waits for jobs": "for i in 1 2; do (sleep 0.$i; exit $i) & done; for j in $(jobs -p); do wait $j; echo $?; done",
    "a job goes on": "sleep 0.5 > /dev/null 2>&1 & echo started",
    "a job is disowned": "sleep 0.5 > /dev/null 2>&1 & disown; echo started",
    "a job holds the output": "(sleep 0.3; echo late) & echo early",
    "five megabytes": "head -c 5000000 /dev/zero | tr '\\0' x",
    "many lines": "seq 200000",
    "much on stderr": "seq 100000 >&2; echo done",
    "binary": "printf '\\000\\377\\001\\n'; cat /bin/true; printf '\\200' >&2",
    "unicode": "printf 'Grüße, 世界 🎉\\n'; expr length 'äöü'",
    "stdin is empty": "cat; read -r x; echo $?",
    "stdin from a file": "wc -c < /etc/passwd; sort < /etc/group | head -2",
    "stdin closed": "exec <&-; cat; echo $?",
    "stdout closed": "echo x >&-; echo $? >&2",
    "changes folder": "cd /usr/share && cd ..",
    "changes folder in a subshell": "(cd /usr; pwd); pwd",
    "an array": 'a=(x "y z" w); echo "${#a[@]} ${a[1]} ${a[@]: -1}"',
    "process substitution": "diff <(seq 3) <(seq 2 4); tee >(wc -l >&2) < /etc/hostname > /dev/null; sleep 0.2",
    "exec": "exec sh -c 'echo replaced; exit 4'",
    "exec of a descriptor": "exec 3>&1 >&2; echo to-err; echo to-out >&3",
    "a trap at the end": "trap 'echo bye' EXIT; echo hi; exit 6",
    "ulimits": "ulimit -a; ulimit -n 100; ulimit -n",
    "a limit is hit": "x=$(ulimit -f 1; head -c 100000 /dev/zero > big); echo $?",
    "umask": "umask; umask 077; touch masked; stat -c %a masked",
    "set -e": "set -e; echo one; false; echo two",
    "set -o pipefail": "set -o pipefail; false | true; echo $?",
    "a pipe breaks": "yes | head -2; echo ${PIPESTATUS[@]}",
    "subshells": "(exit 3); echo $?; { echo a; (echo b; (echo c)); }; x=$(echo d); echo $x",
    "time": "TIMEFORMAT=timed; time true",
    "interleaved": "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done",
    "not there": "no-such-command-at-all",
    "not runnable": "/etc/passwd",
    "bad syntax": "if then",
    "environment": "env | grep -v -e '^OOMLESS_TREE=' | sort",
    "a variable for one command": "X='a b' sh -c 'echo $X'; echo \"[$X]\"",
    "quotes": """echo "it's" 'a "test"' $'tab\\there' \\\\ "\\$HOME" """,
    "descriptors": "ls /proc/self/fd",
    "signals": "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status",
    "nice": "nice; nice -n 5 nice",
    "session and group": "ps -o sid=,pgid= -p $$ | awk -v p=$$ '{print $1 == $2, $1 == p}'",
}  # fmt: skip
#: The front stands where the shell would: it leads the process session and the group.
DIFFERS = ("session and group",)

Outcome = tuple[int, bytes, bytes, str]


@pytest.fixture
def program() -> str:
    return prefix.write(Paths(), None)


def outcome(process: subprocess.Popen[bytes], cwd_file: Path) -> Outcome:
    out, err = process.communicate(timeout=30)
    cwd = cwd_file.read_text() if cwd_file.exists() else "(not written)"
    cwd_file.unlink(missing_ok=True)
    return process.returncode, out, err or b"", cwd


def ran(program: str | None, command: str, folder: Path, **options: object) -> Outcome:
    where = folder / "cwd"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": folder, **options}
    (folder / "big").unlink(missing_ok=True)
    (folder / "masked").unlink(missing_ok=True)
    return outcome(sessions.shell(program, command, str(where), **pipes), where)


def contained() -> int:
    """How many trees the daemon has had: shows that a command really went through it."""
    journal = Journal.open(Paths().journal)
    try:
        return len(journal.trees.recent(1000))
    finally:
        journal.close()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_thirty_commands_and_more(program: str, small: Path) -> None:
    """Output, errors, exit status and the folder that the next command starts in: byte for byte."""
    different = []
    for name, command in COMMANDS.items():
        bare = ran(None, command, small)
        ours = ran(program, command, small)
        if ours != bare and name not in DIFFERS:
            different.append((name, [repr(x)[:300] for x in bare], [repr(x)[:300] for x in ours]))
    assert not different
    assert contained() == len(COMMANDS)


@pytest.mark.parametrize("code", [*range(0, 256, 15), 1, 2, 126, 127, 128, 130, 137, 143, 254])
def test_exit_codes(program: str, small: Path, code: int) -> None:
    assert ran(program, f"exit {code}", small)[:3] == (code, b"", b"")


def test_output_and_errors_in_one_pipe_keep_their_order(program: str, small: Path) -> None:
    for name in ("interleaved", "much on stderr"):
        bare = ran(None, COMMANDS[name], small, stderr=subprocess.STDOUT)
        assert ran(program, COMMANDS[name], small, stderr=subprocess.STDOUT) == bare


@pytest.mark.parametrize("environ", ["bare", "large", "no locale"])
def test_the_environment_is_passed_on(program: str, small: Path, environ: str) -> None:
    """Python sets LC_CTYPE for itself where there is no locale: the command must not see that."""
    env = sessions.environment("shell", os.getpid())
    if environ == "large":
        env |= {f"BIG_{n}": "x" * 100_000 for n in range(10)} | {"LINES_IN_IT": "a\nb", "EMPTY": ""}
    else:
        kept = ("HOME", "PATH", "OOMLESS_TEST", "XDG_", "CLAUDE") + (
            () if environ == "no locale" else ("LANG", "PWD")
        )
        env = {name: value for name, value in env.items() if name.startswith(kept)}
    command = COMMANDS["environment"]
    assert ran(program, command, small, env=env) == ran(None, command, small, env=env)
    assert contained() == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_descriptor_that_the_host_has_closed_stays_closed(program: str, small: Path, closed: int) -> None:
    command = "ls -l /proc/$$/fd > fds; sleep 0.3; grep -c . < fds"
    closing = {"preexec_fn": lambda: os.close(closed)}
    assert ran(program, command, small, **closing) == ran(None, command, small, **closing)
    assert contained() == 1


def test_a_pipe_ends_when_the_shell_closes_its_end(program: str, small: Path) -> None:
    """Neither process of ours holds what belongs to the shell: its output, or a descriptor beyond the usual."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = f"exec {writer}>&-; exec >&-; read -r x < go"
    os.mkfifo(small / "go")
    process = sessions.shell(
        program,
        command,
        str(small / "cwd"),
        stdin=-3,
        stdout=subprocess.PIPE,
        stderr=-3,
        cwd=small,
        pass_fds=[writer],
    )
    os.close(writer)
    assert process.stdout
    assert (process.stdout.read(), os.read(reader, 1)) == (b"", b"")  # would hang
    assert process.poll() is None
    (small / "go").write_text("on\n")
    assert process.wait(20) == 0
    process.stdout.close()
    os.close(reader)


def test_a_running_shell_has_two_processes_of_ours(program: str, small: Path) -> None:
    """The one that the host started, and the background shim, which is in the shell's process group until it ends."""
    os.mkfifo(small / "go")
    process = sessions.shell(
        program,
        "sleep 60 > /dev/null & echo $$ $!; read -r x < go",
        str(small / "cwd"),
        stdin=-3,
        stdout=subprocess.PIPE,
        cwd=small,
    )
    assert process.stdout
    root, sleep = map(int, process.stdout.readline().split())
    shim = stat_of(root).ppid
    assert [stat.pid for stat in proc.table().values() if stat.ppid == process.pid] == [shim]
    assert stat_of(shim).pgid == stat_of(root).pgid == process.pid
    (small / "go").write_text("on\n")
    assert process.wait(20) == 0
    process.stdout.close()
    assert (stat_of(shim).sid, stat_of(sleep).ppid) == (shim, shim)
    proc.kill(sleep, stat_of(sleep).start)


def stat_of(pid: int) -> proc.Stat:
    stat = proc.read_stat(pid)
    assert stat
    return stat


def test_a_shell_that_stops_itself_goes_on_when_it_is_told_to(program: str, small: Path) -> None:
    process = sessions.shell(
        program, "echo $$; kill -STOP $$; exit 3", str(small / "cwd"), stdin=-3, stdout=-1, cwd=small
    )
    assert process.stdout
    root = int(process.stdout.readline())
    assert wait_for(lambda: stat_of(root).state == "T", 5)
    os.kill(root, signal.SIGCONT)
    assert process.wait(20) == 3
    process.stdout.close()


def test_many_shells_at_once(program: str, small: Path) -> None:
    def start(number: int) -> subprocess.Popen[bytes]:
        where = str(small / f"cwd{number}")
        return sessions.shell(program, f"exit {number}", where, stdin=-3, stdout=-1, stderr=-1, cwd=small)

    shells = [start(number) for number in range(20)]
    assert [process.communicate(timeout=60) for process in shells] == [(b"", b"")] * 20
    assert [process.returncode for process in shells] == list(range(20))


# -- the host signals ------------------------------------------------------------------------------------------

BACKGROUND = "{background} & setsid {detached} & "
SHELLS = {
    "plain": BACKGROUND + "{foreground}",
    "traps": "trap 'echo trapped; sleep 0.1' TERM HUP; " + BACKGROUND + "wait; echo goes on; exit 7",
    "ignores": "trap '' TERM HUP; " + BACKGROUND + "wait",
}
Result = tuple[int, bytes, set[str], set[str]]


def signalled(program: str | None, how: str, number: int, group: bool, folder: Path) -> Result:
    """Exit status and output, who lives on, and who of them in the shell's process session."""
    folder.mkdir()
    roster = folder / "roster"
    kinds = ("background", "detached", "foreground")
    command = SHELLS[how].format(**{kind: " ".join(sessions.member(kind, str(roster))) for kind in kinds})
    out = folder / "out"
    with out.open("wb") as file:
        process = sessions.shell(
            program, command, str(folder / "cwd"), stdin=-3, stdout=file, stderr=file, cwd=folder
        )
    try:
        expected = 3 if how == "plain" else 2
        assert wait_for(lambda: len(read_roster(roster)) == expected, 20)
        (os.killpg if group else os.kill)(process.pid, number)
        if how == "ignores" and number != signal.SIGKILL:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.kill()
        code = process.wait(20)
        members = read_roster(roster)
        if group and (how != "ignores" or number == signal.SIGKILL):
            assert all(wait_gone(*members[kind], 5) for kind in members if kind != "detached")
        else:
            assert alive(*members["background"])
        living = {kind for kind, who in members.items() if alive(*who)}
        names = {who: kind for kind, who in members.items()}

        def in_session() -> set[str]:
            found = [s for s in proc.table().values() if s.sid == process.pid and s.alive]
            return {names.get((s.pid, s.start), " ".join(proc.cmdline(s.pid))) for s in found}

        wait_for(lambda: in_session() <= set(kinds), 2)
        return code, out.read_bytes().replace(os.fsencode(folder), b""), living, in_session()
    finally:
        for who in read_roster(roster).values():
            proc.kill(*who)
            wait_gone(*who, 5)


@pytest.mark.parametrize("how", SHELLS)
@pytest.mark.parametrize("group", [False, True], ids=["front", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_of_the_host_does_what_it_does_without_us(
    program: str, tmp_path: Path, how: str, group: bool, number: int
) -> None:
    bare = signalled(None, how, number, group, tmp_path / "bare")
    ours = signalled(program, how, number, group, tmp_path / "ours")
    assert ours == bare
    assert "detached" in ours[2]
    if how == "traps" and number != signal.SIGKILL:
        assert ours[:2] == (7, b"trapped\ngoes on\n")


def test_one_signal_after_another_arrives_each_time(program: str, small: Path) -> None:
    """To the front, to the group, to the front: three traps, not more and not less."""
    script = (
        "n=0; trap 'n=$((n+1)); echo $n' USR1; echo 0; while [ $n -lt 3 ]; do read -r -t 5 x < tick; done; exit $n"
    )
    os.mkfifo(small / "tick")
    hold = os.open(small / "tick", os.O_RDWR)
    process = sessions.shell(program, script, str(small / "cwd"), stdin=-3, stdout=-1, stderr=-3, cwd=small)
    assert process.stdout
    lines = [process.stdout.readline()]
    for send in (os.kill, os.killpg, os.kill):
        send(process.pid, signal.SIGUSR1)
        lines.append(process.stdout.readline())
        # Two of one number become one for a process that has not yet looked, and the front may be slower.
        assert wait_for(lambda: not proc.signals(process.pid, b"SigPnd:", b"ShdPnd:"), 5)
    os.write(hold, b"\n" * 3)
    rest, _ = process.communicate(timeout=20)
    os.close(hold)
    assert (lines, rest, process.returncode) == ([b"0\n", b"1\n", b"2\n", b"3\n"], b"", 3)


SERVERS = {
    "ends with its stdin": ("cat; echo bye >&2; exit 4", None),
    "dies of TERM": ("echo up; exec cat", signal.SIGTERM),
    "dies of INT": ("trap - INT; echo up; exec cat", signal.SIGINT),
    "ends well on INT": ("trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.01; done", signal.SIGINT),
    "ends in its way on TERM": (
        "trap 'echo bye >&2; exit 7' TERM; echo up; while :; do sleep 0.01; done",
        signal.SIGTERM,
    ),
    "dies by itself": ("echo up; kill -USR1 $$", None),
    "is not there": (None, None),
}


def served(program: str, script: str | None, number: int | None) -> tuple[int, bytes, bytes]:
    argv = ["/no/such/server"] if script is None else ["sh", "-c", script]
    process = sessions.server(program, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    out = b""
    if number is not None:
        out = process.stdout.readline()
        process.send_signal(number)
        process.wait(20)  # it ends though its stdin is open
    rest, err = process.communicate(timeout=20)
    return process.returncode, out + rest, err


@pytest.mark.parametrize("how", SERVERS)
def test_a_server_ends_as_without_us(program: str, small: Path, how: str) -> None:
    """Compared with the plainest prefix, which shows nothing of itself."""
    plain = small / "plain"
    plain.write_text('#!/bin/sh\nexec /bin/sh -c "exec $1"\n')
    plain.chmod(0o755)
    assert served(program, *SERVERS[how]) == served(str(plain), *SERVERS[how])
    assert contained() == 1


# -- who is passed through -------------------------------------------------------------------------------------


def chain(pid: int, top: int) -> list[str]:
    """The commands from ``pid`` up to ``top``, which is above it or the same."""
    found = []
    while True:
        stat = proc.read_stat(pid)
        assert stat is not None
        found.append(" ".join(proc.cmdline(pid)))
        if pid == top:
            return found
        pid = stat.ppid


def hooked(program: str | None, folder: Path, env: dict[str, str]) -> list[str]:
    folder.mkdir()
    roster = folder / "roster"
    process = sessions.hook(program, " ".join(sessions.member("plain", str(roster))), env=env)
    try:
        assert wait_for(lambda: read_roster(roster), 20)
        return chain(read_roster(roster)["plain"][0], process.pid)
    finally:
        process.kill()
        for who in read_roster(roster).values():
            proc.kill(*who)
        process.wait(20)


@pytest.mark.parametrize("kind", ["hook", "unknown"])
def test_hooks_and_unknown_kinds_are_passed_through(program: str, tmp_path: Path, kind: str) -> None:
    """Not one process more than with the plainest prefix that there can be, and no daemon is started for them."""
    env = sessions.environment("hook", os.getpid())
    if kind == "unknown":
        env = {name: value for name, value in env.items() if not name.startswith("CLAUDE")}
    plain = tmp_path / "plain"
    plain.write_text('#!/bin/sh\nexec /bin/sh -c "$1"\n')
    plain.chmod(0o755)
    expected = hooked(str(plain), tmp_path / "bare", env)
    ours = hooked(program, tmp_path / "ours", env)
    assert [line.replace("/ours/", "/bare/").replace(program, str(plain)) for line in ours] == expected
    assert not [line for line in ours if "boot_prefix" in line]
    assert not os.path.exists(Paths().daemon_file)


def test_a_hook_has_its_own_exit_code_and_output(program: str) -> None:
    process = sessions.hook(program, "cat; echo no >&2; exit 2", stdin=-1, stdout=-1, stderr=-1)
    assert process.communicate(b"in", timeout=20) == (b"in", b"no\n")
    assert process.returncode == 2


FORMER = """#!/bin/sh
printf '%s\\0' "$#" "$@" >> {log}
[ "$1" = --quick ] && shift
exec bash -c "$1"
"""


@pytest.mark.parametrize("options", ["", " --quick"])
@pytest.mark.parametrize("kind", ["shell", "server", "hook"])
def test_a_former_prefix_gets_exactly_the_line(small: Path, kind: str, options: str) -> None:
    log, path = small / "log", small / "my prog"
    path.write_text(FORMER.format(log=log))
    path.chmod(0o755)
    program = prefix.write(Paths(), str(path) + options)
    command = "echo 'it is' \"$((1+1))\"; exit 3"
    if kind == "shell":
        assert ran(program, command, small)[:2] == (3, b"it is 2\n")
        expected = sessions.line(command, str(small / "cwd"))
    elif kind == "server":
        process = sessions.server(program, ["sh", "-c", command], stdout=-1)
        assert process.communicate(timeout=20)[0] == b"it is 2\n"
        assert process.returncode == 3
        expected = shlex.join(["sh", "-c", command])
    else:
        process = sessions.hook(program, command, stdout=-1)
        assert process.communicate(timeout=20)[0] == b"it is 2\n"
        expected = command
    words = [*options.split(), expected]
    assert log.read_text() == "\0".join([str(len(words)), *words]) + "\0"


# -- no daemon -------------------------------------------------------------------------------------------------

SAMPLE = ("pipe", "a pipe breaks", "signals", "environment", "kills itself hard", "a trap at the end", "binary")


def hung() -> Callable[[], object]:
    """A daemon that answers nobody; call what is returned to end that."""
    run_oomless("daemon", "start")
    found = spawn.running(Paths())
    assert found is not None
    proc.send(found.pid, found.start, signal.SIGSTOP)
    return lambda: proc.send(found.pid, found.start, signal.SIGCONT)


@pytest.mark.parametrize("trouble", ["state", "settings", "hangs", "no interpreter"])
def test_without_a_daemon_all_is_as_if_we_were_not_there(
    small: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    program = str(small / "prefix")
    shutil.copy(prefix.write(Paths(), None), program)
    after: Callable[[], object] = int
    if trouble == "state":
        monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/nowhere")
    elif trouble == "settings":
        folder = Path(os.environ["XDG_CONFIG_HOME"]) / "oomless"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text("budget = [[[")
    elif trouble == "hangs":
        after = hung()
    else:
        text = Path(program).read_text()
        Path(program).write_text(text.replace(sys.executable, "/no/such/python"))
    try:
        for name in SAMPLE if trouble != "hangs" else SAMPLE[:3]:
            bare = ran(None, COMMANDS[name], small)
            began = time.monotonic()
            ours = ran(program, COMMANDS[name], small)
            assert time.monotonic() - began < 2.5
            assert ours == bare, name
        unlocalized = {
            k: v for k, v in sessions.environment("shell", os.getpid()).items() if k[:2] not in ("LC", "LA")
        }
        command = COMMANDS["environment"]
        assert ran(program, command, small, env=unlocalized) == ran(None, command, small, env=unlocalized)
        process = sessions.server(program, ["sh", "-c", "cat; echo err >&2; exit 4"], stdout=-1, stderr=-1)
        began = time.monotonic()
        assert process.communicate(b"in", timeout=20) == (b"in", b"err\n")
        assert (process.returncode, time.monotonic() - began < 2.5) == (4, True)
    finally:
        after()


def test_a_daemon_is_started_by_the_first_shell(program: str, small: Path) -> None:
    assert not os.path.exists(Paths().daemon_file)
    assert ran(program, "echo hi", small)[:2] == (0, b"hi\n")
    assert spawn.running(Paths())


def test_a_shell_of_a_session_that_is_no_ancestor_runs_as_it_is(program: str, small: Path) -> None:
    """CLAUDE_PID names somebody else: that would end the shell with a stranger."""
    other = subprocess.Popen(["sleep", "60"])
    env = sessions.environment("shell", other.pid)
    assert ran(program, "echo ${OOMLESS_TREE-none}", small, env=env)[:2] == (0, b"none\n")
    other.kill()
    other.wait(5)
