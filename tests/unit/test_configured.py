"""What hosts' settings say of their servers: read from files as the hosts write them, and matched with what runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from descents import NoTrees
from oomless.census.attribution import Attributed
from oomless.census.daemon_facts import DaemonFacts
from oomless.census.snapshot import Snapshot
from oomless.daemon.sessions.leftovers import LivingDescendants
from oomless.hosts import mcp_configs
from oomless.hosts.mcp_configs import McpConfigReader
from oomless.hosts.mcp_entries import ConfiguredServer, Entries
from oomless.model import Leftover
from oomless.processes.command import parse_command
from oomless.processes.descent import Descendants
from oomless.processes.ids import ProcessId
from snapshots import GONE, HELD, INIT, SERVER_MARKS, TOOL_MARKS, by_pid, decide, row, snapshot

NODE = ("node", "/srv/index.js", "--fast")


def entry(*command: str, name: str = "mine") -> ConfiguredServer:
    return ConfiguredServer(name=name, command=command, source="~/.claude.json")


class TestEntries:
    @pytest.mark.parametrize(
        ("configured", "runs"),
        [
            (NODE, ("/usr/bin/node", "/srv/index.js", "--fast")),
            (("npx", "-y", "@a/b@1.2", "--x"), ("npm exec @a/b@1.2 --x",)),
            (("npx", "@a/b"), ("npm", "exec", "-y", "@a/b")),
            (("env", "A=1", "-u", "B", "nice", "-n", "5", *NODE), NODE),
            (("setsid", "-f", *NODE), NODE),
            (("/bin/sh", "-c", "cd /srv && exec node /srv/index.js '--fast'"), NODE),
            (
                ("python3", "-m", "my_server", "--repo", "/r"),
                ("/venv/bin/python3.11", "-m", "my_server", "--repo", "/r"),
            ),
        ],
    )
    def test_an_entry_and_what_it_becomes(self, configured: tuple[str, ...], runs: tuple[str, ...]) -> None:
        found = Entries([entry(*configured)]).find(parse_command(runs))
        assert found is not None
        assert (found.name, found.persist_reason) == ("mine", "")

    @pytest.mark.parametrize(
        "runs", [("node", "/srv/index.js"), ("node", "/srv/other.js", "--fast"), ("--fast",), ()]
    )
    def test_another_command_is_another(self, runs: tuple[str, ...]) -> None:
        assert Entries([entry(*NODE)]).find(parse_command(runs)) is None
        assert Entries([]).find(parse_command(NODE)) is None

    @pytest.mark.parametrize(
        ("configured", "how"),
        [
            (("nohup", *NODE), "nohup"),
            (("setsid", "-f", "nohup", *NODE), "nohup"),
            (("env", "A=1", "/usr/bin/nohup", *NODE), "nohup"),
            (("sh", "-c", "setsid nohup node /srv/index.js --fast; true"), "nohup"),
            (("sh", "-c", "(nohup node /srv/index.js --fast &)"), "nohup"),
            (("bash", "-lc", "DEBUG=1 nohup node /srv/index.js --fast 2>/tmp/err"), "nohup"),
            (("sh", "-c", "cd /srv\nnohup node ${HOME}/index.js --fast"), "nohup"),
            (("timeout", "1d", "nohup", "node", "${ROOT}/index.js"), "nohup"),
        ],
    )
    def test_that_it_is_to_go_on(self, configured: tuple[str, ...], how: str) -> None:
        found = Entries([entry("node", "other.js"), entry(*configured)]).find(parse_command(NODE))
        assert found is not None
        assert found.persist_reason == f"its entry mine in ~/.claude.json starts it with {how}"

    def test_of_two_entries_for_the_same_command_one_may_persist(self) -> None:
        for configured in ([entry(*NODE), entry("nohup", *NODE)], [entry("nohup", *NODE), entry(*NODE)]):
            found = Entries(configured).find(parse_command(NODE))
            assert found is not None
            assert found.detaching == "nohup"

    def test_a_launcher_and_what_it_starts_are_known_by_the_package(self) -> None:
        entries = Entries([entry("sh", "-c", "nohup npx -y @a/pkg@1 2>/tmp/err")])
        for runs in (("npm exec @a/pkg@1",), ("node", "/n/node_modules/.bin/pkg")):
            found = entries.find(parse_command(runs))
            assert found is not None
            assert (found.detaching, found.loosely) == ("nohup", True)
        assert entries.find(parse_command(("node", "/n/other"))) is None

    def test_a_line_that_no_shell_reads_says_nothing(self) -> None:
        assert Entries([entry("sh", "-c", "node '/srv")]).find(parse_command(("node", "/srv"))) is None
        assert Entries([entry("sh", "-c", "nohup node '/srv")]).find(parse_command(("node", "/srv"))) is not None


class TestReader:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        (tmp_path / "project").mkdir()
        return tmp_path

    def read(self, home: Path, **environ: str) -> dict[str, tuple[str, ...]]:
        return {
            f"{one.name} {one.source}": one.command for one in McpConfigReader({"HOME": str(home), **environ}).read()
        }

    def test_where_claude_code_keeps_them(self, home: Path) -> None:
        servers = {"a": {"command": "nohup", "args": ["node", "a.js"], "env": {"KEY": "secret"}}}
        project = {str(home / "project"): {"mcpServers": {"b": {"command": "b"}}}, "/gone": {}}
        document = {"mcpServers": servers, "projects": project, "history": [1, {"mcpServers": 3}]}
        (home / ".claude.json").write_text(json.dumps(document))
        (home / "project" / ".mcp.json").write_text(
            json.dumps({"mcpServers": {"c": {"command": "c", "args": ["1"]}}})
        )
        assert self.read(home) == {
            "a ~/.claude.json": ("nohup", "node", "a.js"),
            "b ~/.claude.json": ("b",),
            "c ~/project/.mcp.json": ("c", "1"),
        }
        other = home / "elsewhere"
        other.mkdir()
        os.rename(home / ".claude.json", other / ".claude.json")
        assert "a ~/elsewhere/.claude.json" in self.read(home, CLAUDE_CONFIG_DIR=str(other))

    def test_where_others_do(self, home: Path) -> None:
        for name, text in {
            ".codex/config.toml": '[mcp_servers.d]\ncommand = "d"\nargs = ["--x"]\n[mcp_servers.url]\nurl = "http://x"\n',
            ".gemini/settings.json": '{"mcpServers": {"e": {"command": "e"}}, "theme": "dark"}',
            ".cursor/mcp.json": '{"mcpServers": {"f": {"command": "f"}, "web": {"url": "http://x"}}}',
            ".config/Code/User/mcp.json": '{"servers": {"g": {"type": "stdio", "command": "g"}}}',
        }.items():
            (home / name).parent.mkdir(parents=True)
            (home / name).write_text(text)
        assert {key.split()[0]: command for key, command in self.read(home).items()} == {
            "d": ("d", "--x"), "e": ("e",), "f": ("f",), "g": ("g",),
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text",
        [
            "", "{", "[]", '"x"', "null", '{"mcpServers": []}', '{"mcpServers": {"a": 3, "b": {"command": 4}}}',
            '{"mcpServers": {"a": {"command": ""}, "b": {"command": "x", "args": "y"}}}', '{"projects": {"/x": 3}}',
            "[" * 100_000, "\xff", '{"projects": {"\\u0000": {}}}',
        ],
    )  # fmt: skip
    def test_a_broken_file_says_nothing(self, home: Path, text: str) -> None:
        (home / ".claude.json").write_text(text, encoding="latin-1")
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text('{"mcpServers": {"e": {"command": "e"}}}')
        assert self.read(home) == {"e ~/.gemini/settings.json": ("e",)}

    def test_a_broken_entry_leaves_the_others(self, home: Path) -> None:
        (home / ".claude.json").write_text('{"mcpServers": {"a": 3, "b": {"command": "b"}}, "projects": {"/p": []}}')
        assert self.read(home) == {"b ~/.claude.json": ("b",)}

    def test_a_file_is_read_again_when_it_has_changed(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = home / ".claude.json"
        file.write_text('{"mcpServers": {"a": {"command": "a"}}}')
        reader, read, plain = McpConfigReader({"HOME": str(home)}), list[int](), os.read

        def counted(fd: int, size: int) -> bytes:
            read.append(size)
            return plain(fd, size)

        monkeypatch.setattr(os, "read", counted)
        assert [one.name for one in (*reader.read(), *reader.read())] == ["a", "a"]
        assert read == [file.stat().st_size]
        file.write_text('{"mcpServers": {"ab": {"command": "a"}}}')
        assert [one.name for one in reader.read()] == ["ab"]

    def test_what_is_no_file_is_not_waited_for(self, home: Path) -> None:
        """A project may come from anybody."""
        projects: dict[str, object] = {}
        for name in ("pipe", "device", "loop", "folder"):
            (home / name).mkdir()
            projects[str(home / name)] = {}
        os.mkfifo(home / "pipe" / ".mcp.json")
        (home / "device" / ".mcp.json").symlink_to("/dev/zero")
        (home / "loop" / ".mcp.json").symlink_to(home / ".claude.json")
        (home / "folder" / ".mcp.json").mkdir()
        document = {"mcpServers": {"a": {"command": "a"}}, "projects": projects}
        (home / ".claude.json").write_text(json.dumps(document))
        assert [one.name for one in McpConfigReader({"HOME": str(home)}).read()] == ["a", "a"]

    def test_a_project_file_that_changes_later_is_seen(self, home: Path) -> None:
        (home / ".claude.json").write_text(json.dumps({"projects": {str(home / "project"): {}}}))
        reader, file = McpConfigReader({"HOME": str(home)}), home / "project" / ".mcp.json"
        assert reader.read() == ()
        file.write_text('{"mcpServers": {"b": {"command": "b"}}}')
        assert [one.name for one in reader.read()] == ["b"]

    def test_names_neither_steer_a_terminal_nor_tell_secrets(self, home: Path) -> None:
        servers = {"evil\x1b[2J": {"command": "a"}, "key sk-abcdefghijkl": {"command": "b"}}
        (home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
        assert [one.name for one in McpConfigReader({"HOME": str(home)}).read()] == ["evil [2J", "key ***"]

    def test_a_file_that_is_too_large_is_left_alone(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mcp_configs, "MAX_BYTES", 10)
        (home / ".claude.json").write_text('{"mcpServers": {"a": {"command": "a"}}}')
        assert self.read(home) == {}


class TestVerdicts:
    """A server that its entry starts with nohup, and that has set its signals back: only the settings tell."""

    SERVER = " ".join(NODE)

    def seen(self) -> Snapshot:
        return snapshot(INIT, row(41, 1, self.SERVER, pgid=40, sid=30), p41=SERVER_MARKS)

    def settled(self, *configured: ConfiguredServer) -> Attributed:
        return decide(self.seen(), DaemonFacts(configured=configured), default=GONE)[41]

    def test_a_server_that_is_configured_to_persist_is_detached(self) -> None:
        assert self.settled(entry(*NODE)).verdict == "orphan"
        found = self.settled(entry("nohup", *NODE))
        assert found.verdict == "detached"
        assert found.evidence[0].endswith("; its entry mine in ~/.claude.json starts it with nohup")

    def test_nor_is_it_superseded_or_by_recorded_ancestry_an_orphan(self) -> None:
        twice = snapshot(
            INIT, row(100, 1, "claude", sid=99), row(101, 100, self.SERVER, pgid=100, sid=99),
            row(201, 100, self.SERVER, start=5000, pgid=100, sid=99), p101=SERVER_MARKS, p201=SERVER_MARKS,
        )  # fmt: skip
        told = DaemonFacts(configured=(entry("nohup", *NODE),))
        assert decide(twice, default=GONE, p201=HELD)[101].verdict == "superseded"
        assert decide(twice, told, default=GONE, p201=HELD)[101].verdict == "owned"
        left = Leftover(pid=41, start=41, host="claude-code", session="s-1", root=40)
        assert decide(self.seen(), DaemonFacts(leftovers=(left,)))[41].verdict == "orphan"
        assert (
            decide(self.seen(), DaemonFacts(leftovers=(left,), configured=told.configured))[41].verdict == "detached"
        )

    def test_the_settings_are_a_line_of_evidence_and_a_name(self) -> None:
        told = DaemonFacts(configured=(entry(*NODE),))
        host = row(100, 1, "codex")
        found = by_pid(snapshot(host, row(101, 100, self.SERVER)), told=told)[101]
        assert (found.server, found.kind, found.verdict) == ("mine", "server", "owned")
        assert found.evidence.count("settings: ~/.claude.json starts the server mine with this command") == 1
        plain = by_pid(snapshot(host, row(101, 100, self.SERVER)))[101]
        assert plain.server is None

    @pytest.mark.parametrize("command", ["node /srv/index.js --fast", "python3 mcp_batch.py"])
    def test_by_its_words_alone_nothing_is_proven(self, command: str) -> None:
        """A job that has read all its input looks the same: parent 1, and nobody at the other end."""
        told = DaemonFacts(configured=(entry(*NODE),))
        found = decide(snapshot(INIT, row(41, 1, command, pgid=40, sid=30)), told)[41]
        assert (found.verdict, found.confidence) == ("orphan", 0.6)
        twice = snapshot(
            row(1, 0, "init"), row(100, 1, "codex"), row(101, 100, command), row(201, 100, command, start=5000),
        )  # fmt: skip
        found = decide(twice, told, p201=HELD)[101]
        assert (found.verdict, found.confidence) == ("superseded", 0.6)

    @pytest.mark.parametrize("command", ["node /srv/index.js --fast", "python3 mcp_batch.py"])
    def test_what_runs_in_a_tool_shell_is_the_agents_work(self, command: str) -> None:
        told = DaemonFacts(configured=(entry(*NODE),))
        shell = "/bin/bash -c source /home/u/.claude/shell-snapshots/snapshot-bash-1.sh && eval x"
        seen = snapshot(
            INIT, row(100, 1, "claude"), row(101, 100, shell, sid=101), row(102, 101, command, sid=101),
            row(103, 1, command, pgid=90, sid=90), p101=TOOL_MARKS, p102=TOOL_MARKS, p103=TOOL_MARKS,
        )  # fmt: skip
        found = by_pid(seen, told=told)
        assert (found[102].server, found[103].server) == (None, None)


class TestTheDaemon:
    def test_what_its_entry_has_go_on_is_spared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        servers = {"mine": {"command": "nohup", "args": [*NODE]}}
        (tmp_path / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
        remains = LivingDescendants(Descendants(ProcessId(2**22 + 1, 1)), NoTrees())
        assert remains._persist_reason(NODE) == "its entry mine in ~/.claude.json starts it with nohup"
        assert remains._persist_reason(("node", "other.js")) == ""
