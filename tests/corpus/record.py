"""Records scenes: runs a stage in a pid namespace of its own, or on the machine itself (``machine.py``), reads its
processes with the census' own code, and writes them with the stage's labels.

    python -m tests.corpus.record NAME...|--all|--list [--out FOLDER]

The stages are in ``stage_*.py``. An ordinary user's namespace is in a user namespace, where the kernel allows that.
What is of this machine in a path is replaced: no scene names a place of it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from oomless.census import snapshot
from oomless.census.snapshot import Snapshot
from oomless.hosts import mcp_configs
from oomless.paths import Paths
from oomless.platform.base import Platform, Standing

from . import machine, rules, scene

if TYPE_CHECKING:
    from .stage import Play

assert sys.platform == "linux"

HERE = Path(__file__).parent
REPOSITORY, SUPPORT = HERE.parent.parent, HERE.parent / "support"
MODULES = (
    "stage_claude", "stage_ends", "stage_jobs", "stage_tools", "stage_late", "stage_ends_typed", "stage_machine",
    "stage_unremembered", "stage_trees",
)  # fmt: skip
#: Seconds that one scene may take.
LONGEST = 240


def plays() -> tuple[str, ...]:
    """The names of all stages. The helpers of the tests are modules of their own, in ``tests/support``."""
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    for name in MODULES:
        importlib.import_module(f"{__package__}.{name}")
    from .stage import PLAYS

    return tuple(PLAYS)


# -- outside of the namespace ----------------------------------------------------------------------------------------


class NotRecorded(Exception):
    """Why the scene could not be recorded."""


def unshared() -> list[str] | None:
    """The command that makes a pid namespace; None if none may be made here."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    return None if subprocess.run([*command, "true"], capture_output=True, check=False).returncode else command


def prepared(name: str) -> None:
    """Puts there what the stage needs; in a test, skips it if that is not done here."""
    plays()
    from .stage_parts import prepare

    prepare(_play(name).needs)


def impossible(name: str) -> str:
    """Why this user cannot record it here, or ""."""
    if plays() and _play(name).machine:
        return "" if os.geteuid() == 0 else "a stage on the machine itself needs root"
    return "" if unshared() else "no pid namespace may be made here"


def _play(name: str) -> Play:
    from .stage import PLAYS

    return PLAYS[name]


def record(name: str, inner: Sequence[str] = (), seconds: float = LONGEST) -> scene.Scene:
    """What it needs must be there. ``inner`` is the command that performs it, if not this module's. Raises
    NotRecorded."""
    why = impossible(name)
    if why:
        raise NotRecorded(why)
    from realparts import FOLDER

    with _folder() as folder:
        inner = inner or [sys.executable, "-m", __spec__.name if __name__ == "__main__" else __name__]
        command = [*inner, "--inside", name, "--folder", folder]
        env = {**os.environ, "OOMLESS_PARTS": str(FOLDER), "PYTHONPATH": os.pathsep.join(_path())}
        where = _on_the_machine if _play(name).machine else _in_a_namespace
        errors = where(command, env, Path(folder), seconds)
        if errors is None:
            raise NotRecorded(f"{name} took more than {seconds:.0f} s")
        try:
            return msgspec.json.decode(Path(folder, "scene.json").read_bytes(), type=scene.Scene)
        except FileNotFoundError:
            raise NotRecorded(f"{name}: {errors[-6000:]}") from None


def _in_a_namespace(command: list[str], env: dict[str, str], folder: Path, seconds: float) -> str | None:
    """What was said on stderr; None if it took too long."""
    init = [*(unshared() or ()), sys.executable, "-I", "-S", str(HERE / "stage_init.py")]
    try:
        done = subprocess.run(
            [*init, *command], cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return done.stderr


def _on_the_machine(command: list[str], env: dict[str, str], folder: Path, seconds: float) -> str | None:
    try:
        group = machine.Group.make()
    except OSError as error:
        raise NotRecorded(str(error)) from None
    errors, install = folder / "errors", folder / "state/oomless/id"
    try:
        pid = group.start([*command, "--group", str(group.path)], env, REPOSITORY, errors)
        return errors.read_text(errors="replace") if group.await_end(pid, seconds) else None
    finally:
        group.end()
        if install.exists():
            machine.remove_trees(install.read_text().strip())


def _path() -> list[str]:
    """Where the inner process finds this package and the tests' helpers."""
    return [str(REPOSITORY), str(HERE.parent), str(SUPPORT)]


@contextmanager
def _folder() -> Iterator[str]:
    """Short: a socket's path holds 100 characters."""
    folder = tempfile.mkdtemp(prefix="oo", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- inside ----------------------------------------------------------------------------------------------------------


def perform(name: str, folder: Path, group: Path | None = None) -> int:
    """Runs the stage and writes what is there then to ``scene.json``. ``group``: the stage's cgroup."""
    from .stage import Stage

    plays()
    play = _play(name)
    places = _places(folder)  # of the home that is the machine's, not the stage's
    stage = Stage(folder, machine.Group(group) if group else None)
    try:
        play.run(stage)
        stage.await_quiet()
        facts = msgspec.structs.replace(stage.daemon_facts(), configured=mcp_configs.McpConfigReader().read())
        seen, standings = read(stage.platform())
        labels = stage.labels(seen.processes)
        rows = tuple(
            scene.Recorded(process=process, marks=marks, standing=standings[process.pid], label=labels[process.pid])
            for process, marks in zip(seen.processes, seen.marks, strict=True)
        )
        found = scene.Scene(
            name=name,
            title=play.title,
            programs=tuple(stage.programs),
            host=scene.Host(kernel=os.uname().release, recorded=datetime.date.today().isoformat()),
            rules=f"tried with {rules.name('scenes')}" if play.tried else rules.name("scenes"),
            daemon=facts,
            install_id=Paths().install_id() if facts.trees else "",
            processes=rows,
        )
        Path(folder, "scene.json").write_text(elsewhere(msgspec.json.encode(found).decode(), places))
    finally:
        for path in stage.rubbish:
            shutil.rmtree(path, ignore_errors=True)
    return 0


def read(platform: Platform) -> tuple[Snapshot, dict[int, Standing]]:
    """One look, and how each stands: made again if somebody came, went or changed meanwhile."""
    for _ in range(50):
        seen = snapshot.take_snapshot(platform)
        standings = snapshot.read_standings(platform, seen.processes)
        if standings.keys() == {one.pid for one in seen.processes} and _same(seen, snapshot.take_snapshot(platform)):
            return seen, standings
    raise NotRecorded("the processes do not come to rest")


def _same(one: Snapshot, other: Snapshot) -> bool:
    lines = [[(p.pid, p.start, p.ppid, p.command) for p in seen.processes] for seen in (one, other)]
    return lines[0] == lines[1]


def _places(folder: Path) -> list[tuple[str, str]]:
    """What is of this machine, and what stands for it; the longest first."""
    from realparts import FOLDER

    found = {
        str(folder / "home"): "/home/dev",
        str(folder): "/tmp/scene",
        str(FOLDER.parent): "/home/dev/.cache/oomless",
        sys.prefix: "/home/dev/oomless/.venv",
        str(REPOSITORY): "/home/dev/oomless",
        sys.base_prefix: "/usr",
        os.path.expanduser("~"): "/home/dev",
        pwd.getpwuid(os.geteuid()).pw_dir: "/home/dev",
    }
    return sorted(found.items(), key=lambda pair: -len(pair[0]))


def elsewhere(text: str, places: list[tuple[str, str]]) -> str:
    for place, instead in places:
        text = re.sub(rf"{re.escape(place)}(?![\w.-])", instead, text)
    return re.sub(r"/tmp/(?!scene\b)", "/tmp/scene/", text)


# -- the command -----------------------------------------------------------------------------------------------------


def inside(parser: argparse.ArgumentParser) -> None:
    """How ``record`` calls it to have the stage performed."""
    for name, kind in (("--inside", str), ("--folder", Path), ("--group", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.record")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, default=scene.SCENES)
    inside(parser)
    options = parser.parse_args(arguments)
    if options.inside:
        return perform(options.inside, options.folder, options.group)
    known = plays()
    if options.list:
        print("\n".join(known))
        return 0
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"there is no stage {', '.join(sorted(unknown))}")
    done = [_keep(name, options.out) for name in (known if options.all else options.names)]
    return 0 if all(done) else 1


def _keep(name: str, out: Path) -> bool:
    try:
        prepared(name)
        found = record(name)
        scene.save(found, out / f"{name}.json")
    except (NotRecorded, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    print(f"{name}: {len(found.processes)} processes")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
