"""Scenes of governed trees: whose members leave its groups whenever they are moved back."""

from __future__ import annotations

import os
import sys

from oomless.paths import Paths
from oomless.platform import cgroup, proc
from oomless.protocol.client import Client

from .stage import ROLE, Stage, unseen
from .stage_work import actor

assert sys.platform == "linux"

MOVERS = 17


@unseen("a governed tree whose members move out of its groups again and again", machine=True)
def movers(stage: Stage) -> None:
    """To the groups that the stage itself is in, as a host does that writes itself into the group of its user's."""
    stage.daemon()
    own = proc.cgroups("self")
    groups = [f"{mount.point}{own[mount.controller]}" for mount in cgroup.read_mounts() if mount.controller in own]
    job = f"for n in $(seq {MOVERS}); do {ROLE}=job:mover {actor('mover', *groups)} & done; wait"
    xdg = {name: value for name, value in os.environ.items() if name.startswith("XDG_")}
    command = [
        sys.executable,
        "-m",
        "oomless",
        "run",
        "--name",
        "job",
        "--expect",
        "50MB",
        "--",
        "/bin/sh",
        "-c",
        job,
    ]
    stage.start("job", *command, env=xdg)
    stage.say("job", "owned", "a governed tree's shim, and its root")
    stage.say("job:mover", "escaped", "it leaves the groups of its tree whenever it has been moved back")
    client = Client(Paths(), start=False)

    def named() -> int:
        return sum(len(tree.escaped) for tree in client.status().trees)

    stage.wait(lambda: named() >= MOVERS, 60, f"{MOVERS} are named, {named()} are")
    stage.expect("job:mover", MOVERS)
