"""The catalog of known programs: a command line for each entry, what must not be taken for one, how lines are split,
and the user's own file. Real servers are started in ``test_catalog_real.py``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_files import BROKEN_CATALOG, CATALOG, write_catalog
from oomless import catalog
from oomless.catalog import programs
from oomless.errors import ConfigError, UsageError
from oomless.paths import Paths
from oomless.processes.command import launched_package, parse_command, unversioned
from oomless.processes.words import split_line, split_title

KNOWN = catalog.load()
CODE = "/Applications/Visual Studio Code.app/Contents"
SERENA, GITHUB = "git+https://github.com/oraios/serena", "ghcr.io/github/github-mcp-server"
PLUGIN = f"{CODE}/Frameworks/Code Helper (Plugin).app/Contents/MacOS/Code Helper (Plugin)"


def lines_of(name: str) -> list[str]:
    text = (Path(__file__).parents[1] / "data" / "catalog" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


ROWS = [tuple(re.split(r" {2,}", line, maxsplit=2)) for line in lines_of("known.txt")]


class TestTable:
    @pytest.mark.parametrize(("name", "kind", "line"), ROWS)
    def test_it_knows(self, name: str, kind: str, line: str) -> None:
        known = KNOWN.recognise(split_line(line))
        assert known is not None
        assert (known.program.name, known.program.kind) == (name, kind)

    @pytest.mark.parametrize("line", lines_of("not_known.txt"))
    def test_a_name_in_passing_is_not_a_program(self, line: str) -> None:
        assert KNOWN.recognise(split_line(line)) is None

    def test_each_entry_has_a_row(self) -> None:
        """Whichever entry is deleted, a row of the table misses it."""
        met = {id(known.program) for *_, line in ROWS if (known := KNOWN.recognise(split_line(line)))}
        assert [one.title for one in KNOWN.programs if id(one) not in met] == []

    def test_each_file_in_the_folder_is_read(self) -> None:
        folder = Path(catalog.__file__).parent
        assert {path.name for path in folder.glob("*.toml")} == set(programs.FILES)

    def test_there_are_forty_servers_each_with_its_source(self) -> None:
        servers = {one.name for one in KNOWN.programs if one.kind == "server"}
        assert len(servers) >= 40
        assert all(len(one.source) > 10 for one in KNOWN.programs)

    def test_titles_in_argv0_are_those_that_were_observed(self) -> None:
        sock = "/tmp/cc-daemon-0/4/spare/a.claim.sock"
        spare = KNOWN.recognise(("claude bg-spare", "--bg-spare", sock))
        keeper = KNOWN.recognise(
            ("claude bg-pty-host", "--bg-pty-host", "a", "200", "50", "--", "claude", "--bg-spare")
        )
        assert spare is not None
        assert spare.program.host
        assert keeper is not None
        assert (keeper.program.name, keeper.program.host) == ("claude-code-pty-host", False)

    def test_an_entry_is_found_by_its_name_and_not_by_walking_past_all_others(self, tmp_path: Path) -> None:
        """A process is looked up among the few whose names fit, in the order of the file."""
        many = "".join(
            f'[[program]]\nname="p{n}"\ntitle="P"\nkind="other"\nsource="s"\n'
            f'executables=["x{n % 2}"]\nfirst=["{n}"]\n'
            for n in range(40)
        )
        (tmp_path / "many.toml").write_text(many)
        found = catalog.load(str(tmp_path / "many.toml"))
        known = found.recognise(("x1", "33"))
        assert known is not None
        assert known.program.name == "p33"
        assert found.recognise(("x0", "33")) is None


class TestLaunchers:
    @pytest.mark.parametrize(
        ("line", "launches", "serves"),
        [
            ("npx -y chrome-devtools-mcp@latest --isolated", "chrome-devtools-mcp", "chrome-devtools-mcp"),
            ("npx --package @playwright/mcp playwright-mcp", "@playwright/mcp", "playwright-mcp"),
            ("npm exec claude-flow@alpha mcp start", "claude-flow", "claude-flow"),
            ("uvx --python 3.12 mcp-server-time --local-timezone UTC", "mcp-server-time", "mcp-server-time"),
            ("uvx -p 3.13 --from serena-agent==1.5 serena start-mcp-server", "serena-agent", "serena"),
            (f"uvx --from {SERENA}@main serena start-mcp-server", SERENA, "serena"),
            ("uv tool uvx mcp-atlassian", "mcp-atlassian", "mcp-atlassian"),
            (f"docker run -i --rm -e GITHUB_TOKEN {GITHUB}:1", GITHUB, "github-mcp-server"),
            ("docker run --rm -i -v /h:/p --network none mcp/filesystem /p", "mcp/filesystem", "server-filesystem"),
            ("docker run -i -p 80:80 localhost:5000/mine:3@sha256:00 sh", "localhost:5000/mine", ""),
            # a server with certain arguments only: with others it is a session, or something else
            ("npm exec @anthropic-ai/claude-code mcp serve", "@anthropic-ai/claude-code", "claude-code-mcp"),
            ("npx -p @anthropic-ai/claude-code claude mcp serve", "@anthropic-ai/claude-code", "claude-code-mcp"),
            ("npx -y @anthropic-ai/claude-code", "@anthropic-ai/claude-code", ""),
            ("npm exec @anthropic-ai/claude-code -p mcp", "@anthropic-ai/claude-code", ""),
            ("uvx --from=serena-agent serena start-mcp-server", "serena-agent", "serena"),
            ("uvx --from=serena-agent serena index", "serena-agent", ""),
        ],
    )  # fmt: skip
    def test_they_name_what_they_were_asked_for(self, line: str, launches: str, serves: str) -> None:
        known = KNOWN.recognise(split_line(line))
        assert known is not None
        assert (known.launches, known.serves) == (launches, serves)

    def test_options_with_a_value_are_the_launchers_own(self) -> None:
        assert launched_package(("-p", "80:80", "image"), takes=("-p",), names=()) == "image"
        assert launched_package(("-p", "pkg", "bin"), names=("-p",)) == "pkg"
        assert unversioned("host:5000/a/b:1.2@sha256:ff") == "host:5000/a/b"


class TestLines:
    def test_blanks_in_paths_of_macos(self) -> None:
        support = "/Users/sam/Library/Application Support"
        assert split_line(f"{PLUGIN} --a --user-data-dir={support}/Code {support}/x y") == (
            PLUGIN, "--a", f"--user-data-dir={support}/Code", f"{support}/x", "y",
        )  # fmt: skip
        assert split_title((f"{PLUGIN} --type=utility",)) == (PLUGIN, "--type=utility")
        assert split_title((f"{CODE}/MacOS/Electron",)) == (f"{CODE}/MacOS/Electron",)
        assert split_line(f"{PLUGIN} /Users/sam/x.js --node-ipc")[1:] == ("/Users/sam/x.js", "--node-ipc")

    def test_a_line_that_was_cut_within_the_programs_name(self) -> None:
        assert split_line(PLUGIN[:-4]) == (PLUGIN[:-4],)
        assert parse_command(split_line(PLUGIN[:-4])).program == "Code Helper (Plu"

    def test_elsewhere_a_blank_ends_a_word(self) -> None:
        assert split_line("/usr/bin/node /a b.app/c") == ("/usr/bin/node", "/a", "b.app/c")
        assert split_line("node  x   y") == ("node", "x", "y")
        assert split_title(("/opt/my app/run --now then",)) == ("/opt/my app/run", "--now", "then")
        assert split_title(("/opt/a - b/run",)) == ("/opt/a - b/run",)

    @given(
        st.lists(
            st.sampled_from([*PLUGIN.split(), "-x", "--a=/Users/s/Library/Application", "Support/", "é", "/b.app/"])
        )
    )
    def test_no_word_is_lost_or_invented(self, words: list[str]) -> None:
        line = " ".join(words)
        assert " ".join(split_line(line)) == " ".join(line.split())
        KNOWN.recognise((line,))

    def test_a_long_line_does_not_take_long(self) -> None:
        words = split_line("/Users/ .app/ " + "a " * 200_000)
        assert len(words) == 200_001


class TestUsersOwn:
    def test_its_entries_go_first_and_ours_stay(self) -> None:
        found = catalog.load(write_catalog(CATALOG))
        names = [known.program.name for line in ("our-mcp", "claude", "tmux") if (known := found.recognise((line,)))]
        assert names == ["our-mcp", "our-claude", "tmux"]

    def test_without_a_file_there_are_ours(self) -> None:
        assert catalog.load(Paths().catalog_file).programs == KNOWN.programs

    def test_what_is_wrong_is_said_with_file_line_and_entry(self) -> None:
        path = write_catalog(BROKEN_CATALOG)
        with pytest.raises(ConfigError) as caught:
            catalog.load(path)
        assert f"{path}:17, program 3 (third)" in caught.value.line()
        assert "servant" in caught.value.line()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('[[program]]\nname="x"\ntitle="X"\nkind="other"\nsource="s"\nexecutables=[""]', "a text is empty"),
            ('[[program]]\nname="x"\ntitle="X"\nkind="other"\nsource="s"\npaths=["/"]', "fits nearly everything"),
            ('[[program]]\nname="x"\ntitle="X"\nkind="other"\nsource="s"\npaths=["/abc"]\ntakes=["x"]', "for kind"),
            ("program = [3]", "program 1 (no table)"),
            ("speed = 3", "something else"),
            ("x = " + "[" * 5000, "is not TOML"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_meant(self, text: str, words: str) -> None:
        with pytest.raises(ConfigError, match=r"\A\S") as caught:
            catalog.load(write_catalog(text))
        assert words in caught.value.line()

    def test_a_file_that_is_no_text(self) -> None:
        Path(write_catalog("")).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="not UTF-8"):
            catalog.load(Paths().catalog_file)

    def test_the_daemon_goes_on_with_ours(self) -> None:
        told: list[str] = []
        found = catalog.load_or_default(write_catalog(BROKEN_CATALOG), told.append)
        assert found.programs == KNOWN.programs
        assert len(told) == 1
        assert "program 3 (third)" in told[0]
