"""Installing into Claude Code's settings and out again: what is written, what is kept, and what is left alone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers import is_error_report, run_oomless
from oomless import jsontext, userfile
from oomless.cli import doctor, hook
from oomless.errors import UsageError
from oomless.hosts.claude_code import check as claude_check
from oomless.hosts.claude_code import install as claude_install
from oomless.hosts.claude_code import settings as claude_settings
from oomless.hosts.claude_code.settings import Gate
from oomless.hosts.installation import Before, Change, HookTarget, HostView
from oomless.paths import Paths

pytestmark = pytest.mark.as_user

TOKEN, OTHER_TOKEN = "a" * 64, "b" * 64
GATE = Gate(
    url="http://127.0.0.1:4000", token=TOKEN, command=claude_settings.session_start_command("/opt/my venv/python")
)
PREFIX = "/state/oomless/prefix"
OURS = frozenset({PREFIX})
OUR_HOOK: dict[str, Any] = {
    "type": "http",
    "url": GATE.url + "/hooks/claude-code",
    "headers": {"Authorization": f"Bearer {TOKEN}"},
}
THEIRS = {"matcher": "Bash", "hooks": [{"type": "command", "command": "guard", "timeout": 1.50}]}


@pytest.fixture
def file(house: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings are; the folder is there, the file is not."""
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    folder = house / "home" / ".claude"
    folder.mkdir()
    return folder / "settings.json"


NOTHING_BEFORE = Before()


def put_in(text: str, gate: Gate = GATE, prefix: str | None = PREFIX, before: Before = NOTHING_BEFORE) -> Any:
    return claude_settings.install_hooks(text, "f", gate, prefix, OURS, before)


def run(*args: str, code: int = 0, **options: Any) -> str:
    done = run_oomless(*args, **options)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    return done.stdout


def refused(*args: str, cwd: Path | None = None) -> str:
    done = run_oomless(*args, cwd=cwd)
    assert done.returncode == 2, done
    assert is_error_report(done.stderr)
    assert done.stderr.startswith("oomless: error: ")
    return done.stderr


def install(*more: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run("install", "claude-code", "--yes", "--json", *more))
    assert answer["schema"] == "oomless.install/1"
    return answer


def uninstall() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run("uninstall", "claude-code", "--yes", "--json"))
    assert answer["schema"] == "oomless.uninstall/1"
    return answer


def plan_here(hooks_only: bool = False) -> Change:
    opened = claude_install.open_settings(os.environ)
    return claude_install.plan_install(Paths(), opened, HookTarget(url=GATE.url, token=TOKEN), hooks_only=hooks_only)


def apply_here(change: Change) -> bool:
    claude_install.apply(Paths(), change)
    return change.changes


# What is written


def test_the_gate_is_where_the_hooks_say(file: Path) -> None:
    report = install()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    hooks = json.loads(file.read_bytes())["hooks"]
    assert set(hooks) == {
        *("PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionDenied"),
        *("SubagentStart", "SubagentStop", "SessionStart", "SessionEnd"),
    }
    [gate] = hooks["PreToolUse"]
    assert gate["matcher"] == hooks["PostToolUse"][0]["matcher"] == hooks["PostToolUseFailure"][0]["matcher"]
    assert gate["matcher"] == "Agent|Task"
    [hook] = gate["hooks"]
    assert (hook["type"], hook["timeout"], hook["statusMessage"]) == ("http", 600, "waiting for memory")
    assert hook["url"] == report["url"] + "/hooks/claude-code"
    assert not any("onFailure" in inner for groups in hooks.values() for group in groups for inner in group["hooks"])
    assert status_of(hook["url"], hook["headers"]) not in (401, 403)
    assert status_of(hook["url"], {}) == 401


def status_of(url: str, headers: dict[str, str]) -> int:
    body = json.dumps({"hook_event_name": "Notification", "session_id": "s"}).encode()
    request = urllib.request.Request(url, body, {**headers, "Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_session_start_is_a_command_of_this_interpreter(file: Path) -> None:
    install("--hooks-only")
    [group] = json.loads(file.read_bytes())["hooks"]["SessionStart"]
    boot = Path(hook.__file__).with_name("boot_hook.py")
    command = f"{sys.executable} -I -S -E {boot} claude-code session-start"
    assert group["hooks"] == [{"type": "command", "command": command, "timeout": 30}]


def test_claude_config_dir_goes_before_home(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(house / "elsewhere"))
    assert install()["settings"] == str(house / "elsewhere" / "settings.json")
    assert not file.exists()


def test_a_second_install_changes_nothing_and_says_so(file: Path) -> None:
    install()
    before, inode = file.read_bytes(), file.stat().st_ino
    assert "nothing to change" in run("install", "claude-code")
    assert (file.read_bytes(), file.stat().st_ino) == (before, inode)
    assert [path.name for path in file.parent.iterdir()] == ["settings.json"]
    assert install()["changed"] is False


def test_mode_link_and_backup(house: Path, file: Path) -> None:
    real = house / "dotfiles.json"
    old = b'{"model": "opus"}\n'
    real.write_bytes(old)
    real.chmod(0o640)
    file.symlink_to(real)
    backup = Path(install()["backup"])
    assert file.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert json.loads(real.read_bytes())["model"] == "opus"
    assert re.fullmatch(r"dotfiles\.json\.oomless-[\d-]+\.bak", backup.name)
    assert (backup.parent, backup.read_bytes(), stat.S_IMODE(backup.stat().st_mode)) == (house, old, 0o600)


STYLES = {
    "two": json.dumps({"a": {"b": [1, 2]}, "hooks": {"PreToolUse": [THEIRS], "Stop": [THEIRS]}, "z": 1}, indent=2),
    "tabs": json.dumps({"env": {"X": "1"}, "hooks": {"SessionEnd": [THEIRS]}}, indent="\t") + "\n\n",
    "windows": json.dumps({"a": 1, "env": {"X": "1"}}, indent=4).replace("\n", "\r\n") + "\r\n",
    "mark": "\ufeff" + json.dumps({"a": "ü"}, indent=3, ensure_ascii=False),
    "one line": '{"big": 1e400, "hooks":{"PreToolUse":[{"hooks":[]}]},"n":1.50, "s":"\\u00fc"}',
    "mixed": '{\n  "hooks": {"PreToolUse": [], "Stop": [{"hooks": [ ]}]},\n\n  "env": {"A":"b"}  }\n',
    "empty": "{}",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_other_byte_stays(file: Path, style: str) -> None:
    old = STYLES[style].encode()
    file.write_bytes(old)
    assert apply_here(plan_here())
    new = file.read_bytes()
    assert json.loads(new.decode("utf-8-sig"))["env"]["CLAUDE_CODE_SHELL_PREFIX"]
    lines = iter(new.splitlines(keepends=True))
    assert b"\r\n" not in old or all(line.endswith(b"\r\n") for line in lines)
    assert apply_here(claude_install.plan_uninstall(Paths(), os.environ))
    assert file.read_bytes() == old


def test_indentation_is_the_files_own() -> None:
    new = put_in(json.dumps({"hooks": {"PreToolUse": [THEIRS]}}, indent=4)).text
    assert new == json.dumps(json.loads(new), indent=4)
    assert "\n" not in put_in('{"a": 1}').text


def test_an_older_install_is_updated_in_place() -> None:
    first = put_in(json.dumps({"hooks": {"PreToolUse": [THEIRS]}}, indent=2))
    grown = json.loads(first.text)
    grown["hooks"]["PreToolUse"].append(THEIRS)
    grown["hooks"]["Stop"] = grown["hooks"]["SubagentStop"]  # An event that this version has no hook for.
    newer = Gate(url="http://127.0.0.1:5000", token=OTHER_TOKEN, command=GATE.command)
    second = put_in(json.dumps(grown, indent=2), newer, before=first.before)
    hooks = json.loads(second.text)["hooks"]
    assert [group["matcher"] for group in hooks["PreToolUse"]] == ["Bash", "Agent|Task", "Bash"]
    assert "Stop" not in hooks
    found = claude_settings.find_installed(json.loads(second.text))
    assert (list(found.ports), list(found.tokens)) == ([5000], [OTHER_TOKEN])
    assert found.events == set(claude_settings.EVENTS)
    assert put_in(second.text, newer, before=second.before) == second


def test_the_session_hook_of_an_older_install_is_replaced_or_taken_out() -> None:
    """It was started as a module once, which took twice the time."""
    command = "/a/python -I -m oomless hook claude-code session-start"
    older = put_in(json.dumps({"a": 1}, indent=2), Gate(url=GATE.url, token=TOKEN, command=command))
    newer = json.loads(put_in(older.text, GATE, before=older.before).text)
    assert [hook["command"] for group in newer["hooks"]["SessionStart"] for hook in group["hooks"]] == [GATE.command]
    assert json.loads(claude_settings.uninstall_hooks(older.text, "f", OURS, older.before)) == {"a": 1}


def test_secrets_are_not_shown(file: Path) -> None:
    file.write_text('{\n  "env": {"MY_API_KEY": "sk-\\"s3cret"}\n}')
    shown = run("install", "claude-code", "--yes")
    token = Path(Paths().token("hooks")).read_text().strip()
    assert token in file.read_text()
    assert '+              "Authorization": "***"' in shown
    assert token not in shown
    assert "s3cret" not in shown
    assert "\x1b" not in shown


# The prefix


def test_a_prefix_that_is_there_is_kept_and_comes_back(house: Path, file: Path) -> None:
    old = b'{\n  "env": {\n    "CLAUDE_CODE_SHELL_PREFIX": "/usr/bin/env",\n    "B": "2"\n  }\n}\n'
    file.write_bytes(old)
    report = install()
    assert json.loads(file.read_bytes())["env"]["CLAUDE_CODE_SHELL_PREFIX"] == report["prefix"]
    assert report["former"] == "/usr/bin/env"
    assert "/usr/bin/env" in Path(report["prefix"]).read_text()
    record = house / "state" / "oomless" / "claude-code.json"
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert install()["former"] == "/usr/bin/env"  # Ours is not taken for a former one.
    uninstall()
    assert file.read_bytes() == old
    assert json.loads(record.read_bytes())["files"] == {}
    assert os.access(report["prefix"], os.X_OK)  # Sessions that run go on with it.


def test_hooks_only_leaves_the_prefix_out(file: Path) -> None:
    assert install("--hooks-only")["prefix"] is None
    assert "env" not in json.loads(file.read_bytes())
    install()
    assert "env" in json.loads(file.read_bytes())
    install("--hooks-only")
    assert "env" not in json.loads(file.read_bytes())


def test_one_prefix_program_wraps_one_prefix(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('{"env": {"CLAUDE_CODE_SHELL_PREFIX": "/usr/bin/env"}}')
    install()
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(house / "elsewhere"))
    assert str(file) in refused("install", "claude-code", "--yes")
    assert install("--hooks-only")["changed"]


def test_a_prefix_that_claude_would_cut_is_refused(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(house / "state" / "a -b"))
    with pytest.raises(UsageError, match="cannot be a prefix"):
        plan_here()


# What is refused

REFUSALS = {
    '{\n  "a": 1,\n}': "settings.json:3:1: not valid JSON",
    "": "settings.json:1:1: not valid JSON",
    '{"a": 1, "a": 2}': "twice",
    '{"a": NaN}': "NaN",
    '{"a": ' + "[" * 100_000 + "}": "deeply",
    "[]": "not a JSON object",
    '{"hooks": []}': "hooks is not",
    '{"hooks": {"Stop": {}}}': "hooks.Stop",
    '{"hooks": {"PreToolUse": [{"matcher": "x"}]}}': "hooks.PreToolUse[0]",
    '{"hooks": {"PreToolUse": [{"hooks": ["x"]}]}}': "hooks.PreToolUse[0]",
    '{"env": 1}': "env is not",
    '{"env": {"CLAUDE_CODE_SHELL_PREFIX": 1}}': "env.CLAUDE_CODE_SHELL_PREFIX",
    '{"a": "' + "x" * 2**21 + '"}': "larger than 2 MiB",
    b'{\n"a": "\xff"}': "settings.json:2: the text is not UTF-8",
}


@pytest.mark.parametrize("content", REFUSALS, ids=REFUSALS.values())
def test_what_cannot_be_read_is_left_alone(house: Path, file: Path, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(raw)
    assert REFUSALS[content] in refused("install", "claude-code", "--yes")
    assert (file.read_bytes(), os.listdir(file.parent)) == (raw, ["settings.json"])
    assert not (house / "state" / "oomless").exists()  # No daemon was started for it.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"disableAllHooks": True}, "disableAllHooks"),
        ({"allowManagedHooksOnly": True}, "allowManagedHooksOnly"),
        ({"allowedHttpHookUrls": []}, '/*" to it'),
        ({"allowedHttpHookUrls": ["https://hooks.example.com/*"]}, '/*" to it'),
    ],
)
def test_hooks_that_would_not_run_are_not_installed(file: Path, content: dict[str, Any], says: str) -> None:
    file.write_text(json.dumps(content))
    line = refused("install", "claude-code", "--yes")
    assert says in line
    assert "would not run" in line
    assert json.loads(file.read_bytes()) == content
    assert os.listdir(file.parent) == ["settings.json"]


@pytest.mark.parametrize("pattern", ["http://127.0.0.1:4000/*", "http://127.0.0.1:*", "*/hooks/claude-code"])
def test_an_address_that_is_allowed(pattern: str) -> None:
    allowed: tuple[str, object] = ("f", {"allowedHttpHookUrls": [pattern], "disableAllHooks": False})
    assert claude_settings.find_blocker([allowed], GATE.url) is None
    other: tuple[str, object] = ("g", {"allowedHttpHookUrls": []})
    assert claude_settings.find_blocker([other, allowed], GATE.url) is None
    assert claude_settings.find_blocker([allowed], "http://127.0.0.1:40001") is None or pattern.endswith("4000/*")


def test_the_administrators_settings_count(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    managed = house / "managed.json"
    managed.write_text('{"allowManagedHooksOnly": true}')
    monkeypatch.setattr(claude_install, "MANAGED", str(managed))
    with pytest.raises(UsageError, match=str(managed)):
        plan_here()


def test_another_host_is_refused(file: Path) -> None:
    assert "claude-code" in refused("install", "emacs", "--yes")
    assert "claude-code" in refused("uninstall", "emacs", "--yes")


def test_a_folder_that_cannot_be(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house / "occupied").touch()
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(house / "occupied"))
    assert "cannot read" in refused("install", "claude-code", "--yes")
    file.mkdir()
    monkeypatch.delenv("CLAUDE_CONFIG_DIR")
    assert "not a regular file" in refused("install", "claude-code", "--yes")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_is_not_writable(file: Path, which: str) -> None:
    file.write_text("{}")
    locked = file if which == "file" else file.parent
    locked.chmod(0o400 if which == "file" else 0o500)
    try:
        assert "not writable" in refused("install", "claude-code", "--yes")
    finally:
        file.parent.chmod(0o700)
    assert (file.read_bytes(), os.listdir(file.parent)) == (b"{}", ["settings.json"])


# A token is not for git


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", *who, "-C", str(folder), *words], check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize("behind_a_link", [False, True])
def test_a_file_that_git_tracks(house: Path, file: Path, behind_a_link: bool) -> None:
    real = house / "dotfiles" / "settings.json" if behind_a_link else file
    real.parent.mkdir(exist_ok=True)
    real.write_text("{}")
    if behind_a_link:
        file.symlink_to(real)
    git(real.parent, "init")
    git(real.parent, "add", "-f", "settings.json")
    (real.parent / ".gitignore").write_text("*\n")  # Ignored and tracked is tracked.
    assert "git tracks it" in refused("install", "claude-code", "--hooks-only", "--yes")
    assert real.read_text() == "{}"


def test_a_file_that_git_would_take(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(file.parent.parent, "init")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")  # The caller's environment does not mislead.
    assert "not ignored" in refused("install", "claude-code", "--yes")
    ignore = file.parent.parent / ".gitignore"
    ignore.write_text("settings.json\n")
    assert ".bak is in a git repository" in refused("install", "claude-code", "--yes")
    assert not file.exists()
    ignore.write_text("settings.json*\n")
    assert install()["changed"]


def test_a_git_folder_without_git(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / ".git").mkdir()
    assert plan_here().changes  # That is no repository.
    monkeypatch.setenv("PATH", str(file.parent))
    with pytest.raises(UsageError, match="no git to ask"):
        claude_install.open_settings(os.environ)


# Asking, and somebody else who writes


class Terminal:
    """A command with a terminal as its stdin, stdout and stderr."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oomless", *args], stdin=slave, stdout=slave, stderr=slave, env=dict(os.environ)
        )
        os.close(slave)

    def until(self, words: bytes | None) -> str:
        """Reads until these words, or to the end; 30 s at most."""
        deadline = time.monotonic() + 30
        while words is None or words not in self.seen:
            assert select.select([self.master], [], [], deadline - time.monotonic())[0], self.seen
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # EIO: the other end is closed
                piece = b""
            if not piece:
                assert words is None, self.seen
                break
            self.seen += piece
        return self.seen.decode()

    def end(self) -> int:
        self.until(None)
        code = self.process.wait(30)
        os.close(self.master)
        return code


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: str) -> Terminal:
        opened.append(Terminal(*args))
        return opened[-1]

    yield start
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_it_shows_in_colour_and_asks(file: Path, terminal: Callable[..., Terminal]) -> None:
    no = terminal("install", "claude-code")
    assert "\x1b[32m+" in no.until(b"[y/N]")
    os.write(no.master, b"\n")
    assert no.end() == 1
    assert not file.exists()
    yes = terminal("install", "claude-code")
    yes.until(b"[y/N]")
    os.write(yes.master, b"y\n")
    assert yes.end() == 0
    assert claude_settings.find_installed(json.loads(file.read_bytes())).events


def test_without_a_terminal_nothing_is_written(file: Path) -> None:
    done = run_oomless("install", "claude-code")
    assert done.returncode == 2, done
    assert is_error_report(done.stderr)
    assert "--yes" in done.stderr
    assert "+" in done.stdout
    assert not file.exists()
    assert run_oomless("install", "claude-code", "--json").stdout == ""


@pytest.mark.parametrize("old", [None, "{}"])
def test_changed_while_it_asked(file: Path, terminal: Callable[..., Terminal], old: str | None) -> None:
    if old is not None:
        file.write_text(old)
    asks = terminal("install", "claude-code")
    asks.until(b"[y/N]")
    file.write_text('{"a": 1}')
    os.write(asks.master, b"y\n")
    assert asks.end() == 2
    assert "changed it meanwhile" in asks.seen.decode()
    assert (file.read_text(), os.listdir(file.parent)) == ('{"a": 1}', ["settings.json"])


def test_changed_between_backup_and_rename(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last moment at which it can be seen."""
    file.write_text("{}")
    read = userfile.read(str(file), 100)
    now = userfile._read_again

    def late(again: userfile.UserFile) -> bytes | None:
        file.write_text('{"late": 1}')
        return now(again)

    monkeypatch.setattr(userfile, "_read_again", late)
    with pytest.raises(UsageError, match="meanwhile"):
        userfile.replace(read, b"ours", backup=True)
    assert (file.read_text(), os.listdir(file.parent)) == ('{"late": 1}', ["settings.json"])


def test_a_file_that_appears_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = userfile.read(str(file), 100)
    monkeypatch.setattr(userfile, "_read_again", lambda _: None)  # As it was a moment before link(2).
    file.write_text("theirs")
    with pytest.raises(UsageError, match="meanwhile"):
        userfile.replace(read, b"ours", backup=False)
    assert (file.read_text(), os.listdir(file.parent)) == ("theirs", ["settings.json"])


def test_a_link_that_was_turned(house: Path, file: Path) -> None:
    one, other = house / "one", house / "other"
    one.write_text("{}")
    other.write_text("{}")
    file.symlink_to(one)
    read = userfile.read(str(file), 100)
    file.unlink()
    file.symlink_to(other)
    with pytest.raises(UsageError, match="meanwhile"):
        userfile.replace(read, b"ours", backup=False)
    assert one.read_text() == other.read_text() == "{}"


def test_backups_do_not_replace_each_other(file: Path) -> None:
    kept = set()
    for number in range(3):
        file.write_text(str(number))
        path = userfile.replace(userfile.read(str(file), 100), b"new", backup=True)
        assert path is not None
        assert Path(path).read_text() == str(number)
        kept.add(path)
    assert len(kept) == 3


# Out again


def test_uninstall_needs_no_daemon(house: Path, file: Path) -> None:
    file.write_text('{"a": 1}')
    install()
    run("daemon", "stop")
    shown = run("uninstall", "claude-code", "--yes")
    assert "***" in shown
    assert file.read_text() == '{"a": 1}'
    assert not (house / "state" / "oomless" / "daemon.json").exists()


def test_nothing_installed(file: Path) -> None:
    assert "nothing of oomless" in run("uninstall", "claude-code")
    file.write_text('{"hooks": {"PreToolUse": []}, "env": {"CLAUDE_CODE_SHELL_PREFIX": "mine"}}')
    before = file.read_bytes()
    assert uninstall()["changed"] is False
    assert (file.read_bytes(), os.listdir(file.parent)) == (before, ["settings.json"])


def test_uninstall_refuses_what_it_cannot_read(file: Path) -> None:
    file.write_text("{")
    assert ":1:2: not valid JSON" in refused("uninstall", "claude-code", "--yes")


def test_uninstall_takes_ours_out_of_what_the_user_made_of_it() -> None:
    installed = put_in("{}")
    edited = json.loads(installed.text)
    hooks = edited["hooks"]
    hooks["PreToolUse"][0]["hooks"].append({"type": "command", "command": "mine"})
    hooks["PreToolUse"][0]["matcher"] = "Agent"
    hooks["PostToolUse"][0]["hooks"][0]["timeout"] = 9
    hooks["Notification"] = [THEIRS]
    hooks["Stop"] = "not a list"
    edited["env"]["A"] = "b"
    left = claude_settings.uninstall_hooks(json.dumps(edited), "f", OURS, installed.before)
    assert json.loads(left) == {
        "hooks": {
            "PreToolUse": [{"matcher": "Agent", "hooks": [{"type": "command", "command": "mine"}]}],
            "Notification": [THEIRS],
            "Stop": "not a list",
        },
        "env": {"A": "b"},
    }


def test_a_prefix_that_the_user_set_since_stays() -> None:
    text = put_in('{"env": {"CLAUDE_CODE_SHELL_PREFIX": "old"}}')
    since = text.text.replace(PREFIX, "newer")
    assert '"newer"' in claude_settings.uninstall_hooks(since, "f", OURS, text.before)
    assert put_in(since, before=text.before).before.former == "newer"


@pytest.mark.parametrize(
    "hook",
    [
        {**OUR_HOOK, "headers": None},
        {**OUR_HOOK, "headers": {"Authorization": "Bearer x"}},
        {**OUR_HOOK, "url": "http://10.0.0.1:4000/hooks/claude-code"},
        {**OUR_HOOK, "url": OUR_HOOK["url"] + "/x"},
        {"type": "command", "command": "python -m other hook claude-code session-start"},
        {"type": "command", "command": "oomless hook claude-code session-start && mine"},
        {"type": "command", "command": "python -I -S -E /other/cli/boot_hook.py claude-code session-start"},
        {"type": "command", "command": "python -I -S -E /a/oomless/cli/boot_hook.py claude-code session-end"},
        {"type": "command", "command": "boot_hook.py claude-code session-start"},
        {"type": "command", "command": "echo 'unclosed"},
        {"type": "prompt"},
        {},
        None,
    ],
)
def test_what_only_looks_like_ours(hook: object) -> None:
    assert not claude_settings.is_ours(hook)


@pytest.mark.parametrize(
    "hook",
    [
        OUR_HOOK,
        {"type": "command", "command": claude_settings.session_start_command("/a b/python")},
        {"type": "command", "command": "py -I -S -E '/a b/oomless/cli/boot_hook.py' claude-code session-start"},
        {"type": "command", "command": "/a/python -I -m oomless hook claude-code session-start"},
        {"type": "command", "command": "/usr/local/bin/oomless hook claude-code session-start"},
        {"type": "command", "command": "/bin/oomless", "args": ["hook", "claude-code", "session-start"]},
    ],
)
def test_what_is_ours(hook: object) -> None:
    assert claude_settings.is_ours(hook)


# Whatever the settings are

texts = st.text(max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
some_groups = st.builds(lambda more, hooks: {**more, "hooks": hooks}, objects, st.lists(objects, max_size=2))
some_hooks = st.dictionaries(
    st.sampled_from([*claude_settings.EVENTS, "Stop", "é"]),
    st.lists(
        st.builds(lambda more, hooks: {**more, "hooks": hooks}, objects, st.lists(objects, max_size=2)), max_size=3
    ),
    max_size=4,
)
environments = st.dictionaries(st.sampled_from(["A", "CLAUDE_CODE_SHELL_PREFIX"]), texts, max_size=2)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Settings in any form that JSON can have; most of them of the right shape."""
    known = {"hooks": draw(some_hooks | values), "env": draw(environments | values), **draw(objects)}
    kept = {name: known[name] for name in draw(st.permutations(sorted(known))) if draw(st.booleans())}
    indent = draw(st.sampled_from([None, 0, 1, 2, 4, "\t"]))
    separators = draw(st.sampled_from([None, (",", ":"), (" ,\n", " : ")]))
    text = json.dumps(kept, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from(["", "\n", " "])) + text + draw(st.sampled_from(["", "\n", "\r\n "]))


def groups_of(text: str) -> list[str]:
    """The source text of every matcher group that has none of our hooks."""
    found = []
    place = jsontext.find_item(text, ("hooks",))
    for event in jsontext.list_items(text, place.value) if place else []:
        for group in jsontext.list_items(text, event.value):
            source = text[group.value : group.end]
            if not any(map(claude_settings.is_ours, json.loads(source)["hooks"])):
                found.append(source)
    return found


@settings(max_examples=300, deadline=None)
@given(text=files(), prefix=st.sampled_from([PREFIX, None]))
def test_out_again_gives_back_what_was_there(text: str, prefix: str | None) -> None:
    old = json.loads(text)
    try:
        claude_settings.check_shape(old, "f")
    except UsageError:
        with pytest.raises(UsageError):
            put_in(text, prefix=prefix)
        return
    assume(text.encode("utf-8", "surrogatepass") and old.get("env", {}).get("CLAUDE_CODE_SHELL_PREFIX") != PREFIX)
    installed = put_in(text, prefix=prefix)
    new = json.loads(installed.text)
    assert claude_settings.find_installed(new).events == set(claude_settings.EVENTS)
    assert groups_of(installed.text) == groups_of(text)
    assert list(new) == list(old) + [name for name in ("hooks", "env") if name in new and name not in old]
    assert put_in(installed.text, prefix=prefix, before=installed.before).text == installed.text
    left = claude_settings.uninstall_hooks(installed.text, "f", OURS, installed.before)
    assert json.loads(left) == old
    assert groups_of(left) == groups_of(text)


@settings(max_examples=200, deadline=None)
@given(text=files(), value=values)
def test_what_is_put_in_last_can_be_taken_out(text: str, value: object) -> None:
    for place in (("new",), ("hooks", "New"), ("hooks", "PreToolUse", len(list_at(text)))):
        if isinstance(jsontext.read_value(text, place[:-1]), list if isinstance(place[-1], int) else dict):
            put = jsontext.put_value(text, place, value)
            assert inside(json.loads(put), place) == value
            dropped = jsontext.drop_item(put, place)
            assert json.loads(dropped) == json.loads(text)
            if jsontext.read_value(text, place[:-1]):
                assert dropped == text


def inside(found: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        found = found[part]
    return found


def list_at(text: str) -> list[object]:
    found = jsontext.read_value(text, ("hooks", "PreToolUse"))
    return found if isinstance(found, list) else []


# What doctor says


def looked_at(url: str | None = GATE.url, token: str | None = TOKEN) -> HostView:
    return claude_check.check(Paths(), os.environ, os.getcwd(), HookTarget(url=url, token=token))


def test_doctor_shows_the_host(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (looked_at().hooks, looked_at().prefix) == ("none", "none")
    install()
    [host] = json.loads(run("doctor", "--json"))["hosts"]
    assert (host["host"], host["hooks"], host["prefix"], host["problems"]) == (
        "claude-code",
        "installed",
        "installed",
        [],
    )
    doctor.show_host(msgspec.convert({**host, "notes": ["a note"]}, HostView))
    shown = capsys.readouterr().out
    assert "hooks: installed, prefix: installed" in shown
    assert "- a note" in shown


def test_all_is_in_order(file: Path) -> None:
    apply_here(plan_here())
    view = looked_at()
    assert (view.hooks, view.prefix, view.problems, view.notes) == ("installed", "installed", (), ())
    assert looked_at(None, None).problems == ()  # No daemon runs: nothing to compare with.


def test_hooks_of_another_daemon(file: Path) -> None:
    apply_here(plan_here())
    port, token = looked_at("http://127.0.0.1:4001", OTHER_TOKEN).problems
    assert "port 4000" in port
    assert "4001" in port
    assert "token" in token
    assert TOKEN not in token


def test_hooks_that_are_missing(file: Path) -> None:
    apply_here(plan_here())
    content = json.loads(file.read_bytes())
    del content["hooks"]["SubagentStop"]
    file.write_text(json.dumps(content))
    view = looked_at()
    assert view.hooks == "partly"
    assert "SubagentStop" in view.problems[0]


def test_a_prefix_program_that_is_gone(file: Path) -> None:
    apply_here(plan_here())
    os.unlink(os.path.join(Paths().state, "prefix"))
    [problem] = looked_at().problems
    assert "no command runs" in problem


@pytest.mark.parametrize("where", ["settings.json", "settings.local.json"])
def test_a_project_that_turns_hooks_off(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    apply_here(plan_here())
    project = house / "project" / ".claude"
    project.mkdir(parents=True)
    (project / where).write_text('{"disableAllHooks": true}')
    monkeypatch.chdir(project.parent)
    [problem] = looked_at().problems
    assert str(project / where) in problem


def test_settings_that_cannot_be_read_are_a_problem(file: Path) -> None:
    file.write_text("{,}")
    view = looked_at()
    assert (view.hooks, "settings.json:1:2" in view.problems[0]) == ("none", True)


@pytest.mark.parametrize("where", ["home", "project"])
def test_the_file_that_claude_ignores(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    folder = house / where / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(house / where)
    (folder / "config.json").write_text('{"theme": "dark"}')
    assert looked_at().notes == ()
    (folder / "config.json").write_text('// adjustments\n{"maxParallelSubagents": 2}')
    [note] = looked_at().notes
    assert f"Claude Code ignores {folder / 'config.json'}" in note


def test_the_program_and_its_version(house: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(house))
    assert looked_at().program is None
    program = house / "claude"
    for script, version in (("echo '2.1.330 (Claude Code)'", "2.1.330"), ("exit 3", None), ("exec sleep 60", None)):
        program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        program.chmod(0o755)
        if version is None:
            monkeypatch.setattr(claude_check, "VERSION_SECONDS", 0.2)
        view = looked_at()
        assert (view.program, view.version) == (str(program), version)
