"""``oomless doctor``: the containment ladder of this machine, what is chosen and why, and a kill that is tried.

The trial starts a small tree of its own with the ways in which processes slip away (own session, own group, double
fork, wiped environment, SIGTERM ignored), kills its root, and counts who is left. Then each host: whether oomless is
installed in it as it should be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Annotated

import msgspec
import typer
from rich.table import Table

assert sys.platform == "linux"

from oomless import hosts
from oomless.cli import output
from oomless.cli.install import current_target
from oomless.config import load_settings
from oomless.contain.launch import ShimSpec, shim_argv, write_spec
from oomless.contain.rungs.base import SUBREAPER_GAP
from oomless.contain.rungs.choose import Offer, RungChooser
from oomless.errors import ContainmentError
from oomless.hosts.installation import HostView
from oomless.model import ExitRecord
from oomless.paths import Paths
from oomless.platform import current, proc
from oomless.units import format_size

#: Six processes: the root and five that slip away, each in its own way; the root ends once all are there.
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


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds``: from the root's end to the proof that nobody is left, the grace of 1 s after SIGTERM included."""

    name: str
    usable: bool
    chosen: bool
    why: str
    ended: int | None = None
    survivors: int | None = None
    seconds: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = "oomless.doctor/1"
    platform: str
    total_bytes: int
    available_bytes: int
    rungs: tuple[Rung, ...]
    gaps: tuple[str, ...]
    hosts: tuple[HostView, ...]


@output.guard()
def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how trees are contained here, try a kill, check the hosts.

    Every rung that this machine offers is tried on a small tree with the known ways to escape. Exit 1 if one
    left a survivor.
    """
    paths = Paths()
    paths.make()
    report = examine(paths)
    if as_json:
        output.print_json(report)
    else:
        show(report)
    if any(rung.survivors for rung in report.rungs):
        raise typer.Exit(1)


def examine(paths: Paths) -> Report:
    platform = current()
    memory = platform.memory()
    tag = paths.install_id()
    ladder, cgroups = RungChooser(tag), proc.cgroups("self")
    offers = ladder.offers(cgroups)
    chosen = ladder.choose(cgroups, load_settings(paths.config_file).rung)
    rungs = []
    for offer in offers:
        facts = Rung(name=offer.name, usable=offer.usable, chosen=offer.name == chosen.name, why=offer.why)
        if offer.usable:
            record = trial(offer, tag)
            facts = msgspec.structs.replace(
                facts, ended=record.ended, survivors=record.survivors, seconds=record.seconds
            )
        rungs.append(facts)
    return Report(
        platform=platform.name,
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        rungs=tuple(rungs),
        gaps=tuple(gaps(chosen, offers)),
        hosts=check_hosts(paths),
    )


def check_hosts(paths: Paths) -> tuple[HostView, ...]:
    target = current_target(paths)
    return tuple(host.check(paths, os.environ, os.getcwd(), target) for host in hosts.known())


def trial(offer: Offer, tag: str) -> ExitRecord:
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


def gaps(chosen: Offer, offers: list[Offer]) -> list[str]:
    """What the chosen rung cannot do, said beforehand, and what would raise it."""
    if chosen.bases:
        who = "as any of its user's may" if chosen.name == "cgroup2+systemd" else "only root can"
        return [f"a process that moves itself to another group ({who}) is found by descent, not by the group"]
    delegated = next(offer.why for offer in offers if offer.name == "cgroup2+systemd")
    return [
        "the kernel does not enforce memory limits here; the shim polls, and a fast tree overshoots by some per cent",
        SUBREAPER_GAP if chosen.name == "subreaper" else chosen.why.split("; ", 1)[-1],
        "to raise it: run as root, or see what keeps systemd from delegating a group: " + delegated,
    ]


def show(report: Report) -> None:
    console = output.console()
    available, total = format_size(report.available_bytes), format_size(report.total_bytes)
    console.print(f"{report.platform}: {available} of {total} available")
    table = Table("rung", "offered", "trial", "why", title="containment, best first", title_justify="left")
    for rung in report.rungs:
        name = f"{rung.name} (chosen)" if rung.chosen else rung.name
        tried = "-"
        if rung.survivors is not None:
            tried = f"{rung.ended} escapees ended, {rung.survivors} left, {rung.seconds:.2f} s"
        table.add_row(name, "yes" if rung.usable else "no", tried, rung.why)
    console.print(table)
    for gap in report.gaps:
        console.print(f"- {gap}", highlight=False)
    for host in report.hosts:
        show_host(host)


def show_host(host: HostView) -> None:
    console = output.console()
    version = f"{host.program} {host.version or 'does not tell its version'}" if host.program else "not on PATH"
    says = f"{host.host}: {version}; hooks: {host.hooks}, prefix: {host.prefix} in {host.settings}"
    console.print(output.printable(says), soft_wrap=True)
    for line in (*host.problems, *host.notes):
        console.print(f"- {output.printable(line)}", soft_wrap=True)
