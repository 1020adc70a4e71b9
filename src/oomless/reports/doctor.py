"""What ``doctor`` finds out: the containment rungs of this machine, which is chosen and why, a kill tried on each,
what the chosen rung cannot do, and whether oomless is installed in each host as it should be.

The trial starts a small tree with the ways in which processes escape (own session, own group, double fork, wiped
environment, SIGTERM ignored), ends its root, and counts the survivors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import msgspec

assert sys.platform == "linux"

from oomless import hosts
from oomless.config import load_settings
from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.contain.rungs.base import SUBREAPER, SUBREAPER_GAP, SYSTEMD_SCOPE
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.errors import ContainmentError
from oomless.hosts.installation import HookTarget, HostView
from oomless.model import ExitRecord
from oomless.paths import Paths
from oomless.platform import current, proc

#: Six processes: the root and five that escape, each in its own way; the root ends once all are there.
ESCAPES = r"""
import os, signal, sys, time
def keep(*steps):
    reader, writer = os.pipe()
    if os.fork() == 0:
        for step in steps:
            step()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
def again():
    if os.fork():
        os._exit(0)
def wiped():
    reader, writer = os.pipe()
    code = f"import os, signal, time; signal.signal(15, signal.SIG_IGN); os.write({writer}, b'x'); time.sleep(60)"
    if os.fork() == 0:
        os.setsid()
        os.set_inheritable(writer, True)
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})
    os.read(reader, 1)
keep()
keep(os.setsid)
keep(os.setpgrp)
keep(os.setsid, again)
wiped()
"""


class RungTrial(msgspec.Struct, frozen=True, kw_only=True):
    """``ended`` and ``survivors`` are processes; ``seconds`` is from the start of the trial to the proof that nothing
    is left, the grace of 1 s after SIGTERM included. All None where the rung is not usable."""

    name: str
    usable: bool
    chosen: bool
    why: str
    ended: int | None = None
    survivors: int | None = None
    seconds: float | None = None


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.doctor/1"
    platform: str
    total_bytes: int
    available_bytes: int
    rungs: tuple[RungTrial, ...]
    gaps: tuple[str, ...]
    hosts: tuple[HostView, ...]


def examine_machine(paths: Paths, target: HookTarget) -> DoctorReport:
    """``target``: where the hooks of a running daemon are. Raises ContainmentError if a trial fails."""
    platform = current()
    memory = platform.memory()
    tag = paths.install_id()
    chooser, groups = RungChooser(tag), proc.cgroups("self")
    offers = chooser.offers(groups)
    chosen = chooser.choose(groups, load_settings(paths.config_file).rung)
    return DoctorReport(
        platform=platform.name,
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        rungs=tuple(_examine_rung(offer, chosen, tag) for offer in offers),
        gaps=tuple(list_gaps(chosen, offers)),
        hosts=tuple(host.check(paths, os.environ, os.getcwd(), target) for host in hosts.known()),
    )


def _examine_rung(offer: Offer, chosen: Offer, tag: str) -> RungTrial:
    trial = RungTrial(name=offer.name, usable=offer.usable, chosen=offer.name == chosen.name, why=offer.why)
    if not offer.usable:
        return trial
    record = try_kill(offer, tag)
    return msgspec.structs.replace(trial, ended=record.ended, survivors=record.survivors, seconds=record.seconds)


def try_kill(offer: Offer, tag: str) -> ExitRecord:
    """A real shim around a real tree on that rung, without the daemon; raises ContainmentError."""
    tree = "d" + os.urandom(4).hex()
    with tempfile.TemporaryDirectory(prefix="oomless-doctor-") as folder:
        granted: dict[str, object] = {
            "tree": tree,
            "reserved": 0,
            "limit": None,
            "processes": None,
            "rung": offer.name,
            "why_rung": offer.why,
            "cgroups": offer.cgroups(f"oomless-{tag}-{tree}"),
            "marker": f"{tag}:{tree}",
            "exits": folder,
        }
        spec = ShimSpec(granted, name="doctor", state=folder, timeout=30.0, quiet=True)
        fd = write_spec(spec)
        argv = shim_argv(fd, tree, [sys.executable, "-I", "-S", "-c", ESCAPES])
        started = time.monotonic()
        done = subprocess.run(argv, pass_fds=[fd], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        os.close(fd)
        try:
            with open(os.path.join(folder, f"{tree}.json"), "rb") as file:
                record = msgspec.json.decode(file.read(), type=ExitRecord)
        except (OSError, msgspec.MsgspecError, json.JSONDecodeError) as error:
            why = done.stderr.decode("utf-8", "replace").strip() or str(error)
            raise ContainmentError(f"the trial on {offer.name} failed", why) from None
    if record.rung != offer.name or record.exit_code != 0:
        raise ContainmentError(f"the trial on {offer.name} failed", record.why_rung or record.reason)
    return msgspec.structs.replace(record, seconds=round(time.monotonic() - started, 3))


def list_gaps(chosen: Offer, offers: list[Offer]) -> list[str]:
    """What the chosen rung cannot do, and what would give a better one."""
    if chosen.bases:
        allowed = "any of the user's may" if chosen.name == SYSTEMD_SCOPE else "only root may"
        return [f"a process that moves itself to another cgroup ({allowed}) is found by ancestry, not by its cgroup"]
    scope = next(offer.why for offer in offers if offer.name == SYSTEMD_SCOPE)
    return [
        "no kernel memory limits here: the shim polls, and a fast tree overshoots its limit by some per cent",
        SUBREAPER_GAP if chosen.name == SUBREAPER else chosen.why.split("; ", 1)[-1],
        f"for a better rung, run as root, or let systemd delegate a cgroup: {scope}",
    ]
