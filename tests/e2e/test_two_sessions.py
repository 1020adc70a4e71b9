"""One of two real sessions is killed: its servers are orphans, the other's are not, and ``reap`` ends exactly those.

Claude Code with five real servers each, and nothing of ours in its settings. It plays in a pid namespace of its own
(``two_sessions.py``): ``reap --yes`` ends what anybody left on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import two_sessions
from oomless.demo.model import Call
from oomless.demo.parts import ServerPart
from realparts import mcp_config, real_parts, real_server
from realservers import environment, node, npx, real_servers
from reaping import records
from two_sessions import Spec, Story

assert sys.platform == "linux"

pytestmark = pytest.mark.parts
#: What the requirement allows from the SIGKILL on, to a look of a scan that goes on (``--watch``). A new one has
#: Python to start as well: 0.4 s on an idle machine, seconds on one that has more to do than it can.
DEADLINE = 2.0
EVERYTHING = "mcp-server-everything"
#: Two servers in the middle of a call, one of them below the two wrappers of ``npx``. flow-nexus runs on too, but
#: without a network it ends some seconds after its input.
LEAST_LEFT = 4
EDITORS = ("vim", "vi", "nano")
STARTED = ["build daemon", "editor", "editor in tmux", "script", "tmux"]


@pytest.fixture(params=[False, True], ids=["no-daemon", "daemon"])
def spec(request: pytest.FixtureRequest, house: Path) -> Spec:
    home = house / "home"
    for name in ("work", "claude"):
        (home / name).mkdir()
    return Spec(
        claude=real_parts().claude,
        mcp=str(mcp_config(house, *five(home))),
        home=str(home),
        editor=tool(*EDITORS),
        servers=5,
        calls=tuple(Call(name=f"mcp__{one.name}__{one.tool}", input=one.arguments) for one in five(home)),
        daemon=request.param,
    )


def five(home: Path) -> tuple[ServerPart, ...]:
    """The second is the first below the wrappers of ``npx``."""
    place, everything = real_servers(), real_server("everything")
    launcher = (
        str(node()),
        str(npx()),
        "--no",
        "--prefix",
        everything.command[1].partition("/node_modules/")[0],
        "--",
    )
    wrapped = msgspec.structs.replace(
        everything,
        name="everything-npx",
        command=(*launcher, EVERYTHING, "stdio"),
        env={**environment(home), **everything.env},
    )
    memory = ServerPart(
        name="memory",
        command=(str(node()), str(place / "node_modules/@modelcontextprotocol/server-memory/dist/index.js")),
        version="",
        env={**environment(home), "MEMORY_FILE_PATH": str(home / "memory.jsonl")},
        tool="read_graph",
        arguments={},
    )
    return everything, wrapped, real_server("flow-nexus"), real_server("ruv-swarm"), memory


def tool(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"not installed: {', '.join(names)}")
    return found


def play(spec: Spec, house: Path) -> Story:
    for name in ("tmux", "script"):
        tool(name)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace may be made here")
    told = house / "spec.json"
    told.write_bytes(msgspec.json.encode(spec))
    inside = [sys.executable, two_sessions.__file__, str(told)]
    done = subprocess.run([*unshare, *inside], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    return msgspec.json.decode(done.stdout, type=Story)


def test_the_killed_sessions_servers_are_orphans_in_time_and_nobody_else_is_ended(spec: Spec, house: Path) -> None:
    story = play(spec, house)
    print(
        f"\nfrom SIGKILL: {story.watched:.2f} s to a look of scan --watch, {story.scanned} s to the end of a new scan"
    )
    assert story.daemon_before == spec.daemon
    assert (story.before["first"], story.before["second"]) == (["owned"], ["duplicate"]), "identical, and not orphans"

    assert story.watched <= DEADLINE
    assert len(story.left) >= LEAST_LEFT, story.left
    assert {one.verdict for one in story.left.values()} == {"orphan"}
    word = "recorded ancestry" if spec.daemon else "nothing holds the other end"
    assert all(word in " ".join(one.evidence) for one in story.left.values()), story.left
    assert set(story.kept) <= {"owned", "duplicate"}

    assert set(story.proposed) <= set(story.dry) <= set(story.theirs)
    assert set(story.proposed) <= set(story.left), "who else was left had ended by itself"
    assert (story.ended, story.survived, story.held) == (story.proposed, [], [])
    assert len(story.ended) >= LEAST_LEFT
    assert (story.codes, story.freed > 0) == ([0, 0], True)
    (row,) = records()
    assert sorted(one.pid for one in row.ended) == story.ended
    assert (row.why, row.bytes_freed) == ("oomless reap --yes", story.freed)
    assert all(one.why.startswith("orphan (") for one in row.ended)

    assert sorted(story.stayed) == STARTED, story.others
    assert {
        name: row.verdict for name, row in story.others.items() if row is not None and row.verdict == "orphan"
    } == {}
    assert story.lost == []
    assert [one for one in story.answers if one[1]] == []
    assert {name for name, _, _ in story.answers} == {call.name for call in spec.calls}
    assert story.exit_code == 0
