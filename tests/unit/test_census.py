"""Who is who: catalog, command lines, secrets, ancestry, governed trees, servers, attribution, sums and findings.

All on snapshots written by hand; real processes are scanned in ``test_scan.py``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomless import catalog
from oomless.census import governed
from oomless.census.attribution import attribute
from oomless.census.daemon_facts import OpenTree
from oomless.census.findings import Inventory, at_least
from oomless.census.findings.memory import memory_in_use
from oomless.census.footprints import SECONDS, FootprintCache
from oomless.census.governed import GovernedTree
from oomless.census.snapshot import Marks, Snapshot, parse_marks, take_snapshot
from oomless.errors import ConfigError
from oomless.model import Footprint, MachineMemory, ProcessInfo
from oomless.platform.linux import Linux
from oomless.processes.ancestry import Ancestry
from oomless.processes.command import (
    describe_command,
    launched_package,
    parse_command,
    unversioned,
)
from oomless.processes.words import split_title
from oomless.redact import MASK, command_line, is_secret_name
from oomless.reports.scan import build_scan
from snapshots import KNOWN, NPX, ROOMY, SECRET, SERVER_MARKS, SHIM, TOOL_MARKS, by_pid, row, snapshot, tree


class TestCatalog:
    @pytest.mark.parametrize(
        ("command", "name", "kind"),
        [
            ("claude --continue", "claude-code", "session"),
            ("/home/u/.local/share/claude/versions/2.1.330 -p hi", "claude-code", "session"),
            ("/v/site-packages/claude_agent_sdk/_bundled/claude --verbose", "claude-code", "session"),
            ("node /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude-code", "session"),
            ("node --no-warnings --enable-source-maps /opt/homebrew/bin/claude", "claude-code", "session"),
            ("node /usr/lib/node_modules/@openai/codex/bin/codex.js", "codex", "session"),
            ("node --max-old-space-size=4096 /usr/bin/gemini", "gemini-cli", "session"),
            ("/usr/lib/node_modules/opencode-ai/bin/opencode.exe serve", "opencode", "session"),
            ("/h/.local/share/cursor-agent/versions/9/node /h/x/index.js", "cursor-agent", "session"),
            (
                "/h/cursor-agent/versions/9/node /h/x/index.js worker-server",
                "cursor-agent-worker",
                "plugin-worker",
            ),
            ("/usr/share/code/code", "vscode", "editor"),
            ("node /s/out/bootstrap-fork --type=extensionHost --transformURIs", "vscode", "extension-host"),
            (f"node {NPX}/node_modules/chrome-devtools-mcp/build/src/index.js", "chrome-devtools-mcp", "server"),
            (f"node {NPX}/node_modules/claude-flow/src/mcp/mcp-server.js", "claude-flow", "server"),
            (f"node {NPX}/node_modules/.bin/ruv-swarm mcp start", "ruv-swarm", "server"),
            (f"node {NPX}/node_modules/.bin/mcp-server-everything", "server-everything", "server"),
            (
                "node /g/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js /",
                "server-filesystem",
                "server",
            ),
            ("node /usr/bin/mcp-server-sequential-thinking", "server-sequential-thinking", "server"),
            ("node /g/node_modules/@playwright/mcp/cli.js", "playwright-mcp", "server"),
            ("/v/bin/python /v/bin/mcp-server-time", "mcp-server-time", "server"),
            ("python3 -X dev -m mcp_server_git", "mcp-server-git", "server"),
            (
                "/usr/share/code/code /usr/share/code/typescript/lib/tsserver.js --stdio",
                "tsserver",
                "language-server",
            ),
            (
                "/usr/share/code/code /h/.vscode/extensions/e/server/out/eslintServer.js --node-ipc",
                "eslint-server",
                "language-server",
            ),
            ("npm exec @playwright/mcp@latest", "npm exec", "launcher"),
            ("uv tool uvx mcp-server-fetch", "uvx", "launcher"),
            ("bun x @playwright/mcp", "bun x", "launcher"),
            ("tmux new -s work", "tmux", "terminal"),
            ("SCREEN -S x", "screen", "terminal"),
            ("/usr/bin/xterm", "terminal", "terminal"),
            ("node /p/node_modules/.bin/next dev", "next-dev", "dev-server"),
            ("next-server (v15.1)", "next-dev", "dev-server"),
        ],
    )
    def test_it_knows(self, command: str, name: str, kind: str) -> None:
        known = KNOWN.recognise(tuple(command.split()))
        assert known is not None
        assert (known.program.name, known.program.kind) == (name, kind)
        assert known.by

    @pytest.mark.parametrize(
        "title",
        ["Code Helper (Plugin)", "/Applications/X/Code Helper (Plugin) --type=utility --lang=en"],
    )
    def test_a_helper_of_vs_code_is_an_extension_host_and_no_subagent(self, title: str) -> None:
        argv = (title,) if title.startswith("/") else (title, "--type=utility")
        known = KNOWN.recognise(argv)
        assert known is not None
        assert (known.program.kind, known.program.host) == ("extension-host", False)

    @pytest.mark.parametrize(
        "command",
        [
            "grep claude notes.txt",
            "bash -c claude",
            "npm install flow-nexus",
            "node /p/node_modules/.bin/next build",
            "python -c import claude",
            "cat node_modules/flow-nexus/cli.js",
            "sleep 5",
        ],
    )
    def test_a_name_in_passing_is_not_a_program(self, command: str) -> None:
        assert KNOWN.recognise(tuple(command.split())) is None

    def test_a_launcher_names_the_server_it_was_asked_for(self) -> None:
        known = KNOWN.recognise(("npm exec @modelcontextprotocol/server-memory@2",))
        assert known is not None
        assert known.launches == "@modelcontextprotocol/server-memory"
        assert known.serves == "server-memory"

    def test_every_entry_says_where_its_signature_is_from(self) -> None:
        assert all(len(program.source) > 10 for program in KNOWN.programs)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("program = 3", "[[program]]"),
            ("[[program]\n", "not TOML"),
            ('[[program]]\nname="x"', "program 1 (x)"),
            ('[[program]]\nname="x"\ntitle="X"\nkind="magic"\nsource="s"', "program 1 (x)"),
            ('[[program]]\nname="x"\ntitle="X"\nkind="other"\nsource="s"', "to know it by"),
            (
                '[[program]]\nname="x"\ntitle="X"\nkind="other"\nsource="s"\npaths=["/x"]\nspeed=1',
                "program 1 (x)",
            ),
            (
                '[[program]]\nname="x"\ntitle="X"\nkind="server"\nsource="s"\npaths=["/x"]\nlauncher=1',
                "launcher is for",
            ),
        ],
    )
    def test_a_broken_catalog_is_named_by_file_and_entry(self, text: str, words: str, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            catalog.load(str(tmp_path / "mine.toml"))
        assert "mine.toml" in caught.value.line()
        assert words in caught.value.line()


class TestCommand:
    def test_titles_are_split_and_paths_with_blanks_are_not(self) -> None:
        assert split_title(("npm exec -y x",)) == ("npm", "exec", "-y", "x")
        assert split_title(("/a b/code --type=x",)) == ("/a b/code", "--type=x")
        assert split_title(("/a b/code",)) == ("/a b/code",)
        assert split_title(("a b", "c")) == ("a b", "c")

    def test_an_interpreter_is_looked_through(self) -> None:
        assert parse_command(("node", "-r", "x.js", "--inspect", "/s/app.js", "go")).script == "/s/app.js"
        assert parse_command(("python3.12", "-I", "-m", "pkg", "x"))[3:5] == ("pkg", ("x",))
        assert parse_command(("node", "-e", "code", "x")).script == ""
        assert parse_command(("bun", "run", "app.ts")).script == "app.ts"
        assert parse_command(("vim", "app.js")).script == ""

    def test_versions_are_dropped(self) -> None:
        assert [unversioned(p) for p in ("@s/n@1.2", "n@latest", "n[x]==1", "n>=2", "@s/n")] == [
            "@s/n", "n", "n", "n", "@s/n",
        ]  # fmt: skip

    def test_the_package_is_found_behind_options(self) -> None:
        assert launched_package(("-y", "pkg@1", "arg")) == "pkg"
        assert launched_package(("--package=a", "b")) == "a"
        assert launched_package(("--from", "a", "b")) == "a"
        assert launched_package(("--python", "3.12", "a")) == "a"
        assert launched_package(("--index", "x", "a")) == launched_package(("--default-index", "x", "a")) == "a"
        assert launched_package(("tool", "uvx", "a"), 2) == "a"
        assert launched_package(("-y",)) == ""

    def test_unknown_programs_get_a_short_name(self) -> None:
        assert describe_command(parse_command(("node", "/a/node_modules/@me/mcp/dist/index.js"))) == "@me/mcp"
        assert describe_command(parse_command(("python", "-m", "my_mcp"))) == "my_mcp"
        assert describe_command(parse_command(("node", "/srv/my-mcp.js"))) == "my-mcp"
        assert describe_command(parse_command(("/usr/bin/my-mcp", "--stdio"))) == "my-mcp"
        assert describe_command(parse_command(())) == "?"

    def test_a_shell_is_named_after_what_it_is_about_to_become(self) -> None:
        assert parse_command(("/bin/sh", "-c", "exec node /a/b.js '--x y'")).becomes == ("node", "/a/b.js", "--x y")
        assert parse_command(("/bin/sh", "/s/oomless/prefix", "node /a/b.js")).becomes == ("node", "/a/b.js")
        for argv in (("sh", "-c", "node x"), ("sh", "-c", "exec 'x"), ("node", "-c", "exec x"), ("sh",), ()):
            assert parse_command(argv).becomes == argv

    @given(st.lists(st.text(max_size=12), max_size=6))
    def test_no_argument_list_breaks_it(self, words: list[str]) -> None:
        argv = tuple(words)
        command = parse_command(argv)
        assert describe_command(parse_command(parse_command(argv).becomes))
        assert all(word in "\0".join(argv) for word in (command.path, command.script, command.module))
        known = KNOWN.recognise(argv)
        assert known is None or known.program in KNOWN.programs
        assert command_line(argv) or not any(argv)


class TestRedact:
    @pytest.mark.parametrize(
        "argv",
        [
            ("x", "--token", SECRET),
            ("x", f"--api-key={SECRET}"),
            ("x", "--apiKey", SECRET),
            ("x", "--db-password", SECRET, "--verbose"),
            ("env", f"OPENAI_API_KEY={SECRET}", "x"),
            ("env", f"PGPASSWORD={SECRET}"),
            ("sh", "-c", f"API_TOKEN={SECRET} exec x"),
            ("sh", "-c", f"API_TOKEN='{SECRET} more' x"),
            ("sh", "-c", f'x --token "{SECRET} {SECRET}"; y'),
            ("sh", "-c", f"x --token {SECRET}; y"),
            ("curl", "-H", f"Authorization: Bearer {SECRET}"),
            ("curl", "-H", f"X-Api-Key: {SECRET}"),
            ("x", f"https://me:{SECRET}@example.org/"),
            ("x", f"https://example.org/?a=1&access_token={SECRET}&b=2"),
            ("x", f'{{"token": "{SECRET}"}}'),
            (f"x --token {SECRET}",),
            ("x", f"sk-ant-{SECRET}"),
            ("x", f"ghp_{SECRET}"),
            ("x", f"--api-key=a&b;c,{SECRET}"),
            ("env", f"DB_PASSWORD=a&b;{SECRET}"),
            ("x", "--token", f"-{SECRET}"),
            ("curl", "-H", f"Cookie: a=b; id={SECRET}"),
            ("x", f"postgres://me:a@b{SECRET}@db/x"),
            ("x", f"github_pat_{SECRET}"),
        ],
    )
    def test_it_masks(self, argv: tuple[str, ...]) -> None:
        shown = command_line(argv)
        assert "hunter2" not in shown
        assert MASK in shown
        assert shown.startswith(argv[0].split()[0])

    @pytest.mark.parametrize(
        "line",
        [
            "claude --continue --model haiku",
            "node /a/node_modules/@playwright/mcp/cli.js --port 8931",
            "code --type=extensionHost --max-tokens 100 --author me",
            "python -m mcp_server_git --repository /srv/monkey=1",
            "sh -c cd /src && make KEYBOARD=us",
        ],
    )
    def test_it_leaves_the_rest_alone(self, line: str) -> None:
        assert command_line(tuple(line.split())) == line

    def test_what_follows_a_masked_value_stays(self) -> None:
        assert command_line(("x", "--token", SECRET, "--port", "80")) == f"x --token {MASK} --port 80"
        assert command_line(("x", "--token", "--port", "80")) == "x --token --port 80"

    def test_control_characters_do_not_reach_a_terminal(self) -> None:
        assert command_line(("x", "a\x1b[2Jb\nc")) == "x a [2Jb c"

    @given(st.sampled_from(["--token", "--api-key", "--auth-token", "--client-secret"]), st.booleans())
    def test_names(self, option: str, upper: bool) -> None:
        assert is_secret_name(option.upper() if upper else option)

    @given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=40))
    def test_no_value_of_a_secret_option_is_ever_shown(self, value: str) -> None:
        for argv in (("x", "--token", value), ("x", f"MY_SECRET={value}"), ("sh", "-c", f"x --password {value}")):
            assert value not in command_line(argv)


class TestAncestry:
    def test_up_and_down(self) -> None:
        ancestry = Ancestry([row(1, 0, "init"), row(5, 1, "a"), row(7, 5, "b"), row(8, 5, "c"), row(9, 8, "d")])
        assert list(ancestry.ancestors(9)) == [8, 5, 1]
        assert list(ancestry.descendants(5)) == [7, 8, 9]
        assert ancestry.chain(9, 5) == (9, 8, 5)
        assert ancestry.children(4711) == ()

    def test_a_parent_younger_than_its_child_is_a_stranger(self) -> None:
        ancestry = Ancestry([row(5, 1, "recycled", start=900), row(7, 5, "b", start=20)])
        assert ancestry.parent(7) is None
        assert list(ancestry.descendants(5)) == []

    def test_a_loop_ends(self) -> None:
        ancestry = Ancestry([row(5, 7, "a", start=3), row(7, 5, "b", start=3)])
        assert list(ancestry.ancestors(5)) == [7]
        assert list(ancestry.descendants(5)) == [7]

    def test_the_owner_is_the_nearest_host_this_side_of_a_barrier(self) -> None:
        ancestry = Ancestry([row(5, 1, "host"), row(6, 5, "tmux"), row(7, 6, "sh"), row(8, 5, "sh")])
        assert ancestry.nearest(8, {5}, {6}) == 5
        assert ancestry.nearest(7, {5}) == 5
        assert ancestry.nearest(7, {5}, {6}) is None
        assert ancestry.nearest(5, {5}) is None
        assert (ancestry.topmost(7, {6, 7}), ancestry.topmost(7, {5, 6}), ancestry.topmost(7, {5})) == (6, 5, 7)


class TestGoverned:
    TREE = OpenTree(tree="t1", name="job", root_pid=11, root_start=11)

    def find(self, seen: Snapshot, tree: OpenTree = TREE) -> GovernedTree:
        return governed.find_members(seen, (tree,), "a1b2c3d4")[0]

    def test_below_the_shim_is_what_lost_its_parent(self) -> None:
        seen = snapshot(
            row(10, 1, SHIM), row(11, 10, "job"), row(12, 11, "x"), row(13, 10, "adopted"), row(14, 1, "else")
        )
        found = self.find(seen)
        assert found.shim_pid == 10
        assert found.pids == {11, 12, 13}

    def test_the_marker_finds_what_left(self) -> None:
        mine, nested = Marks(trees="a1b2c3d4:t1"), Marks(trees="a1b2c3d4:t1/t2")
        other, prefix = Marks(trees="ffffffff:t1"), Marks(trees="a1b2c3d4:t11")
        seen = snapshot(
            row(11, 1, "job"), row(20, 1, "a"), row(21, 1, "b"), row(22, 1, "c"), row(23, 1, "d"),
            p20=mine, p21=nested, p22=other, p23=prefix,
        )  # fmt: skip
        assert self.find(seen).pids == {11, 20, 21}
        inner = OpenTree(tree="t2", name="inner", root_pid=21, root_start=21)
        assert self.find(seen, inner).pids == {21}

    def test_init_is_not_the_shim_of_a_root_that_lost_its_own(self) -> None:
        seen = snapshot(row(1, 0, "init"), row(11, 1, "job"), row(12, 11, "x"), row(14, 1, "else"))
        found = self.find(seen)
        assert found.shim_pid is None
        assert found.pids == {11, 12}

    def test_a_recycled_root_is_a_stranger(self) -> None:
        seen = snapshot(row(11, 1, "stranger", start=99), row(12, 11, "x", start=100))
        assert self.find(seen).pids == frozenset()

    def test_a_root_that_is_gone_leaves_its_shim(self) -> None:
        seen = snapshot(row(10, 1, SHIM), row(13, 10, "adopted"))
        found = self.find(seen)
        assert found.shim_pid == 10
        assert found.pids == {13}


class TestMarks:
    def test_only_well_formed_marks_count(self) -> None:
        assert parse_marks({"CLAUDE_PID": "x1", "CLAUDE_PROJECT_DIR": "/p"}) == Marks(
            host="claude-code", project=True
        )
        assert parse_marks({"CLAUDE_PID": "17", "CLAUDE_CODE_SESSION_ID": "s"}) == Marks(
            host="claude-code", host_pid=17, session="s"
        )

    def test_a_servers_claude_pid_is_that_of_the_session_around_its_own(self) -> None:
        found = {"CLAUDE_PID": "17", "CLAUDE_CODE_SESSION_ID": "s", "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS": "s"}
        assert parse_marks(found).host_pid == 0
        assert parse_marks({**found, "CLAUDE_CODE_CHILD_SESSION": "1"}).host_pid == 17

    def test_they_are_read_again_only_of_new_processes_and_after_exec(self) -> None:
        class Machine(Linux):
            def __init__(self) -> None:
                super().__init__()
                self.asked: list[int] = []
                self.table = [row(5, 1, "a"), row(6, 1, "b"), row(7, 1, "c")]

            def processes(self) -> list[ProcessInfo]:
                return self.table

            def environ(self, pid: int, names: frozenset[str]) -> dict[str, str]:
                self.asked.append(pid)
                return {"CLAUDE_CODE_SESSION_ID": f"s{pid}"}

        machine = Machine()
        first = take_snapshot(machine)
        machine.table = [row(5, 1, "a"), row(6, 1, "other"), row(7, 1, "c", start=99), row(8, 1, "d")]
        second = take_snapshot(machine, first)
        assert machine.asked == [5, 6, 7, 6, 7, 8]
        assert [marks.session for marks in second.marks] == ["s5", "s6", "s7", "s8"]


class TestSessions:
    def test_a_session_gets_its_id_from_its_childrens_marks(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, "bash -c x"), p101=TOOL_MARKS)
        found = by_pid(seen)
        assert (found[100].kind, found[100].host, found[100].session) == ("session", "claude-code", "s-1")
        assert (found[100].verdict, found[101].verdict) == ("owned", "owned")
        assert (found[101].kind, found[101].session) == ("tool-shell", "s-1")
        assert found[101].confidence > found[100].confidence > 0.5
        assert "live parent chain: 101 < 100 (claude-code)" in found[101].evidence

    def test_without_marks_the_id_is_its_identity(self) -> None:
        found = by_pid(snapshot(row(100, 1, "claude", start=77), row(101, 100, "sleep 5")))
        assert found[101].session == found[100].session == "100:77"
        assert found[101].kind == "other"

    def test_of_several_ids_the_youngest_childs_counts(self) -> None:
        old, new = Marks(session="s-1"), Marks(session="s-2")
        seen = snapshot(row(100, 1, "claude"), row(101, 100, "x", start=300), row(102, 100, "y"), p101=new, p102=old)
        assert by_pid(seen)[102].session == "s-2"

    def test_a_session_in_a_session_is_its_own(self) -> None:
        inner = Marks(session="s-2", host_pid=102)
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "bash -c x"), row(102, 101, "claude -p y"),
            row(103, 102, "bash -c z"), p101=TOOL_MARKS, p102=TOOL_MARKS, p103=inner,
        )  # fmt: skip
        found = by_pid(seen)
        assert [found[pid].session for pid in (100, 101, 102, 103)] == ["s-1", "s-1", "s-2", "s-2"]
        assert found[102].kind == "session"

    def test_a_child_without_marks_of_its_own_does_not_give_the_outer_id(self) -> None:
        inherited = Marks(session="outer")
        seen = snapshot(row(100, 1, "claude", start=7), row(101, 100, "x"), p100=inherited, p101=inherited)
        assert by_pid(seen)[100].session == "100:7"

    def test_claude_below_claude_is_another_session_but_codex_below_codex_is_not(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "claude --bg"),
            row(200, 1, "node /l/node_modules/@openai/codex/bin/codex.js"), row(201, 200, "codex"),
        )  # fmt: skip
        found = by_pid(seen)
        assert [found[pid].kind for pid in (100, 101, 200, 201)] == ["session", "session", "session", "other"]
        assert found[201].session == "200:200"

    def test_a_multiplexer_ends_the_session(self) -> None:
        found = by_pid(snapshot(row(100, 1, "claude"), row(101, 100, "tmux"), row(102, 101, "make")))
        assert 102 not in found
        assert (found[101].verdict, found[101].session) == ("protected", None)


class TestServers:
    def npx(self, above: int, at: int, package: str = "@modelcontextprotocol/server-memory") -> list[ProcessInfo]:
        """Launcher, shell and server, as npx leaves them in the table."""
        return [
            row(at, above, (f"npm exec {package}",), pgid=above),
            row(at + 1, at, ("sh", "-c", "'mcp-server-memory'"), pgid=above),
            row(at + 2, at + 1, f"node {NPX}/node_modules/.bin/mcp-server-memory", pgid=above),
        ]

    def test_wrappers_belong_to_their_servers_instance(self) -> None:
        found = by_pid(snapshot(row(100, 1, "claude"), *self.npx(100, 101)))
        assert [found[pid].kind for pid in (101, 102, 103)] == ["launcher", "launcher", "server"]
        assert {found[pid].server for pid in (101, 102, 103)} == {"server-memory"}
        assert {found[pid].instance for pid in (101, 102, 103)} == {101}
        assert {found[pid].session for pid in (101, 102, 103)} == {"100:100"}

    def test_children_of_a_server_are_part_of_it(self) -> None:
        command = f"node {NPX}/node_modules/chrome-devtools-mcp/build/src/index.js"
        seen = snapshot(row(100, 1, "claude"), row(101, 100, command), row(102, 101, "/opt/chrome/chrome --x"))
        found = by_pid(seen)
        assert (found[102].kind, found[102].server, found[102].instance) == (
            "browser",
            "chrome-devtools-mcp",
            101,
        )

    def test_a_server_of_several_processes_is_one_instance(self) -> None:
        lib = f"{NPX}/node_modules"
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, f"node {lib}/.bin/claude-flow mcp start"),
            row(102, 101, f"node {lib}/claude-flow/src/cli/simple-cli.js mcp start"),
            row(103, 102, f"node {lib}/claude-flow/src/mcp/mcp-server.js"),
        )  # fmt: skip
        found = by_pid(seen)
        assert {found[pid].instance for pid in (101, 102, 103)} == {101}
        assert {found[pid].kind for pid in (101, 102, 103)} == {"server"}

    def test_a_launcher_that_is_still_loading_is_named_after_its_server(self) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, ("npm exec @playwright/mcp@latest",)))
        assert by_pid(seen)[101].server == "playwright-mcp"

    def test_a_server_started_from_a_tool_shell_does_not_swallow_the_shell(self) -> None:
        shell = row(101, 100, ("bash", "-c", "source /h/shell-snapshots/snapshot-bash-1.sh; npx x"))
        marked = row(101, 100, ("bash", "-c", "npx x"))
        for bash in (shell, marked):
            seen = snapshot(row(100, 1, "claude"), bash, *self.npx(101, 102), p101=TOOL_MARKS)
            found = by_pid(seen)
            assert (found[101].kind, found[101].server) == ("tool-shell", None)
            assert {found[pid].instance for pid in (102, 103, 104)} == {102}

    def test_a_shell_that_the_host_has_start_a_server_is_a_wrapper(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, ("sh", "-c", "flow-nexus mcp start"), pgid=100),
            row(102, 101, f"node {NPX}/node_modules/flow-nexus/cli.js", pgid=100), p101=SERVER_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert (found[101].kind, found[101].server) == ("launcher", "flow-nexus")

    def test_an_unknown_server_is_known_by_its_marks(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "node /srv/my-mcp.js", pgid=100), row(102, 101, "helper"),
            p101=SERVER_MARKS, p102=SERVER_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert (found[101].kind, found[101].server) == ("server", "my-mcp")
        assert (found[102].kind, found[102].server) == ("other", "my-mcp")
        assert any("environment marks" in line for line in found[101].evidence)

    def test_an_unknown_package_gives_its_name_to_the_instance(self) -> None:
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, ("npm exec @me/mcp",), pgid=100),
            row(102, 101, "sh -c mcp", pgid=100), row(103, 102, "node /n/.bin/mcp", pgid=100),
            p101=SERVER_MARKS,
        )  # fmt: skip
        found = by_pid(seen)
        assert [found[pid].kind for pid in (101, 102, 103)] == ["launcher", "launcher", "server"]
        assert {found[pid].server for pid in (101, 102, 103)} == {"@me/mcp"}

    @pytest.mark.parametrize(
        ("pgid", "marks"),
        [(101, SERVER_MARKS), (100, TOOL_MARKS), (100, Marks(session="s-1"))],
    )
    def test_without_all_the_marks_it_is_no_server(self, pgid: int, marks: Marks) -> None:
        seen = snapshot(row(100, 1, "claude"), row(101, 100, "node /srv/job.js", pgid=pgid), p101=marks)
        assert by_pid(seen)[101].server is None

    def test_a_server_without_a_live_host_is_unknown_whatever_its_marks_say(self) -> None:
        command = f"node {NPX}/node_modules/flow-nexus/cli.js"
        seen = snapshot(row(1, 0, "init"), row(50, 1, command), row(51, 1, command), p50=SERVER_MARKS)
        found = by_pid(seen)
        assert (found[50].verdict, found[51].verdict) == ("unknown", "unknown")
        assert found[51].confidence < found[50].confidence < 0.5
        assert (found[50].session, found[51].session) == ("s-1", None)
        assert any("alone proves no owner" in line for line in found[50].evidence)


class TestEditors:
    def test_an_editor_is_protected_and_only_what_is_known_below_it_is_listed(self) -> None:
        code = "/usr/share/code/code"
        seen = snapshot(
            row(10, 1, code), row(11, 10, f"{code} --type=utility --utility-sub-type=node.mojom.NodeService"),
            row(12, 11, f"{code} /usr/share/code/typescript/lib/tsserver.js"), row(13, 11, "/bin/zsh -l"),
            row(14, 13, "make"), row(15, 13, "claude"), row(16, 15, "bash -c x"),
        )  # fmt: skip
        found = by_pid(seen)
        assert [found[pid].verdict for pid in (10, 11, 12)] == ["protected", "protected", "owned"]
        assert (found[12].host, found[12].session) == ("vscode", "10:10")
        assert 13 not in found
        assert 14 not in found
        assert found[15].session == found[16].session == "15:15"

    def test_a_users_own_browser_and_launcher_are_not_listed(self) -> None:
        assert by_pid(snapshot(row(10, 1, "/usr/bin/firefox"), row(11, 1, ("npm exec eslint",)))) == {}


class TestGovernedAttribution:
    def test_members_are_owned_on_the_journals_word(self) -> None:
        seen = snapshot(row(9, 1, SHIM), row(10, 9, "job"), row(11, 10, "x"), row(12, 1, "y"))
        found = by_pid(seen, tree(10, 11, 12, shim=9))
        assert [found[pid].kind for pid in (9, 10, 11, 12)] == ["launcher", "subagent", "other", "other"]
        assert {one.verdict for one in found.values()} == {"owned"}
        assert {one.confidence for one in found.values()} == {1.0}
        assert {one.session for one in found.values()} == {"10:10"}
        assert found[12].evidence == ("journal: member of the governed tree job (t1)",)

    def test_a_host_is_a_session_also_under_run(self) -> None:
        found = by_pid(snapshot(row(9, 1, SHIM), row(10, 9, "claude"), row(11, 10, "x")), tree(10, 11, shim=9))
        assert (found[10].kind, found[10].verdict) == ("session", "owned")
        assert (found[11].host, found[11].session) == ("claude-code", "10:10")

    def test_a_tree_started_by_an_agent_belongs_to_its_session(self) -> None:
        seen = snapshot(row(5, 1, "claude"), row(9, 5, SHIM), row(10, 9, "job"))
        assert by_pid(seen, tree(10, shim=9))[10].host == "claude-code"

    def test_the_innermost_tree_counts(self) -> None:
        outer, inner = tree(10, 11, 12), tree(12, tree="t2", name="inner")
        seen = snapshot(row(10, 1, "a"), row(11, 10, "b"), row(12, 11, "c"))
        found = by_pid(seen, outer, inner)
        assert [found[pid].tree for pid in (10, 11, 12)] == ["job", "job", "inner"]


class TestReport:
    SEEN = snapshot(
        row(100, 1, "claude --token abcdefgh"),
        row(101, 100, f"node {NPX}/node_modules/flow-nexus/cli.js"),
        row(102, 101, "helper"),
        row(200, 1, f"node {NPX}/node_modules/flow-nexus/cli.js"),
    )

    def test_the_rows_have_the_contracts_fields(self) -> None:
        footprint = Footprint(bytes=10_000_000, source="pss", private_bytes=7)
        report = build_scan(attribute(self.SEEN, (), KNOWN), {100: footprint}, ROOMY)
        shown = msgspec.to_builtins(report)
        assert list(shown) == ["schema", "memory", "processes", "groups", "findings"]
        assert shown["schema"] == "oomless.scan/1"
        assert list(shown["memory"]) == ["total_bytes", "available_bytes"]
        first = shown["processes"][0]
        assert list(first) == [
            "pid", "ppid", "start", "uid", "command", "kind", "verdict", "confidence", "host", "session", "server",
            "instance", "footprint_bytes", "footprint_source", "rss_bytes", "bytes_recoverable", "evidence",
            "line", "user", "tty",
        ]  # fmt: skip
        assert first["command"] == f"claude --token {MASK}"
        assert (first["footprint_bytes"], first["bytes_recoverable"]) == (10_000_000, 7)
        assert list(shown["groups"][0]) == ["kind", "name", "instances", "processes", "footprint_bytes", "untold"]

    def test_each_process_is_in_one_group_and_copies_are_counted(self) -> None:
        footprints = {pid: Footprint(bytes=pid, source="rss") for pid in (100, 101, 102, 200)}
        report = build_scan(attribute(self.SEEN, (), KNOWN), footprints, ROOMY)
        groups = {(group.kind, group.name): group for group in report.groups}
        servers = groups["server", "flow-nexus"]
        assert (servers.instances, servers.processes, servers.footprint_bytes) == (2, 3, 403)
        assert groups["session", "claude-code"].processes == 1
        assert sum(group.processes for group in report.groups) == len(report.processes) == 4
        assert {row.bytes_recoverable for row in report.processes} == {None}

    def test_a_governed_tree_is_a_group(self) -> None:
        seen = snapshot(row(9, 1, SHIM), row(10, 9, "job"), row(11, 10, "x"))
        footprints = {pid: Footprint(bytes=1, source="pss") for pid in (9, 10, 11)}
        (group,) = build_scan(attribute(seen, (tree(10, 11, shim=9),), KNOWN), footprints, ROOMY).groups
        assert (group.kind, group.name, group.instances, group.processes) == ("subagent", "job", 1, 3)

    def test_what_a_tool_shell_started_is_in_its_group(self) -> None:
        shim = (*SHIM[:5], "5", "t2", "--", "job")
        seen = snapshot(
            row(100, 1, "claude"), row(101, 100, "bash -c x"), row(102, 101, "make"), row(103, 100, "bash -c y"),
            row(104, 103, f"node {NPX}/node_modules/flow-nexus/cli.js"), row(105, 103, shim), row(106, 105, "job"),
            p101=TOOL_MARKS, p103=TOOL_MARKS,
        )  # fmt: skip
        footprints = {pid: Footprint(bytes=1, source="pss") for pid in range(100, 107)}
        groups = build_scan(attribute(seen, (tree(106, tree="t2", shim=105),), KNOWN), footprints, ROOMY).groups
        assert {(group.kind, group.name): (group.instances, group.processes) for group in groups} == {
            ("session", "claude-code"): (1, 1),
            ("tool-shell", "claude-code"): (2, 3),
            ("server", "flow-nexus"): (1, 1),
            ("subagent", "job"): (1, 2),
        }

    def test_subagents_inside_a_host_are_counted_without_processes(self) -> None:
        (group,) = build_scan((), {}, ROOMY, {"Agent:Explore": 3}).groups
        assert msgspec.to_builtins(group) == {
            "kind": "subagent", "name": "Agent:Explore", "instances": 3, "processes": 0, "footprint_bytes": 0,
            "untold": 0,
        }  # fmt: skip

    def test_what_has_ended_meanwhile_is_left_out(self) -> None:
        assert build_scan(attribute(self.SEEN, (), KNOWN), {}, ROOMY).processes == ()


class TestFootprints:
    def read(self, *looks: tuple[float, int]) -> list[int]:
        """The pids that are read in looks at one process, given as time and RSS."""
        asked: list[int] = []

        def footprint(pid: int) -> Footprint:
            asked.append(pid)
            return Footprint(bytes=len(asked), source="pss")

        footprints = FootprintCache(footprint)
        got = [footprints.read_all([row(5, 1, "x", rss=rss)], now, lambda: None)[5].bytes for now, rss in looks]
        assert got[-1] == len(asked)
        return asked

    def test_they_are_read_again_when_rss_has_moved_or_time_has_passed(self) -> None:
        assert len(self.read((0, 100), (1, 105), (2, 95))) == 1
        assert len(self.read((0, 100), (1, 106))) == 2
        assert len(self.read((0, 100), (1, 94))) == 2
        assert len(self.read((0, 100), (SECONDS - 0.1, 100))) == 1
        assert len(self.read((0, 100), (SECONDS, 100))) == 2

    def test_slow_growth_adds_up(self) -> None:
        assert len(self.read((0, 100), (1, 104), (2, 108))) == 2

    def test_a_reused_pid_is_read_again_and_a_dead_process_forgotten(self) -> None:
        asked: list[int] = []

        def footprint(pid: int) -> Footprint | None:
            asked.append(pid)
            return None if pid == 6 else Footprint(bytes=1, source="pss")

        footprints = FootprintCache(footprint)
        assert footprints.read_all([row(5, 1, "x"), row(6, 1, "gone")], 0, lambda: None).keys() == {5}
        footprints.read_all([row(5, 1, "x", start=77)], 1, lambda: None)
        footprints.read_all([], 2, lambda: None)
        footprints.read_all([row(5, 1, "x", start=77)], 3, lambda: None)
        assert asked == [5, 6, 5, 5]


class TestFindings:
    @pytest.mark.parametrize(
        ("available", "severity"), [(21, None), (20, None), (19, "warning"), (5, "warning"), (4, "critical")]
    )
    def test_memory_in_use(self, available: int, severity: str | None) -> None:
        memory = MachineMemory(total_bytes=100 * 10**9, available_bytes=available * 10**9)
        found = memory_in_use(Inventory(memory=memory))
        assert (found.severity if found else None) == severity
        if found is not None:
            assert f"{available}.00 GB available" in found.evidence[0]
            assert found.action

    def test_severities_are_ordered(self) -> None:
        warning = memory_in_use(Inventory(memory=MachineMemory(total_bytes=100, available_bytes=10)))
        critical = memory_in_use(Inventory(memory=MachineMemory(total_bytes=100, available_bytes=1)))
        assert warning is not None
        assert critical is not None
        assert at_least((warning,), "warning")
        assert not at_least((warning,), "critical")
        assert at_least((critical,), "warning")
        assert not at_least((), "warning")
