"""Sessions played by puppets: processes that take the names and marks of hosts, servers and tools."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from helpers import wait_gone
from oomless.cli import scan
from oomless.platform import proc

PUPPET = """
import json, os, subprocess
plan = json.loads(os.environ["PUPPET"])
lifeline, reports = int(os.environ["LIFELINE"]), int(os.environ["REPORTS"])
children = []
for child in plan["children"]:
    environ = {**os.environ, "PUPPET": json.dumps(child), **child["env"]}
    tool = environ.get("CLAUDE_PID") == "mine"  # tool shells get a session of their own, servers do not
    if tool:
        environ["CLAUDE_PID"] = str(os.getpid())
    options = dict(executable=os.environ["PUPPET_PYTHON"], env=environ, cwd=child["cwd"], close_fds=False,
                   start_new_session=tool)
    if not child["detached"]:
        children.append(subprocess.Popen(child["argv"], **options))
    elif (between := os.fork()) == 0:
        subprocess.Popen(child["argv"], **options)
        os._exit(0)
    else:
        os.waitpid(between, 0)
os.write(reports, f"{plan['label']} {os.getpid()}\\n".encode())
os.read(lifeline, 1)
for child in children:
    child.wait()
"""


Plan = dict[str, Any]


def plan(
    label: str,
    argv: list[str],
    *children: Plan,
    env: dict[str, str] | None = None,
    cwd: str = "/",
    detached: bool = False,
) -> Plan:
    """``detached``: its parent is gone when it reports."""
    return {
        "label": label,
        "argv": argv,
        "children": list(children),
        "env": env or {},
        "cwd": cwd,
        "detached": detached,
    }


def labels(one: Plan) -> set[str]:
    return {one["label"]}.union(*map(labels, one["children"]))


class Stage:
    """Starts trees of stand-ins and knows each by its label."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: dict[str, int] = {}
        self.started: list[subprocess.Popen[bytes]] = []
        self.lifeline, self.keep = os.pipe()
        self.reports, self.reporter = os.pipe()
        for fd in (self.lifeline, self.reporter):
            os.set_inheritable(fd, True)

    def script(self, path: str) -> str:
        """A file below the test's folder that holds the stand-in's code."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PUPPET)
        return str(file)

    def start(self, one: Plan) -> int:
        """Starts the tree and returns when all of it has reported; the pid of its root."""
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLAUDE")},
            "PUPPET": json.dumps(one),
            "PUPPET_PYTHON": os.path.realpath(sys.executable),
            "PYTHONHOME": sys.base_prefix,
            "LIFELINE": str(self.lifeline),
            "REPORTS": str(self.reporter),
            **one["env"],
        }
        process = subprocess.Popen(
            one["argv"],
            executable=os.path.realpath(sys.executable),
            env=environ,
            cwd=one["cwd"],
            pass_fds=(self.lifeline, self.reporter),
        )
        self.started.append(process)
        expected, heard = labels(one), b""
        while not expected <= self.pids.keys():
            assert select.select([self.reports], [], [], 20)[0], f"only {sorted(self.pids)} reported"
            heard += os.read(self.reports, 4096)
            lines, _, heard = heard.rpartition(b"\n")
            self.pids.update((label, int(pid)) for label, pid in (x.split() for x in lines.decode().splitlines()))
        return process.pid

    def close(self) -> None:
        identities = [(pid, start) for pid in self.pids.values() if (start := proc.start_of(pid)) is not None]
        os.close(self.keep)
        for process in self.started:
            process.wait()
        for pid, start in identities:
            assert wait_gone(pid, start, 10)
        for fd in (self.lifeline, self.reports, self.reporter):
            os.close(fd)


app = typer.Typer()
app.command()(scan.command)


def run(*args: str, expect: int = 0) -> str:
    result = CliRunner().invoke(app, list(args), catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result.output


def marks_of(mark: str) -> dict[str, str]:
    return {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": mark, "CLAUDE_PROJECT_DIR": "/"}


def session(stage: Stage, mark: str = "5e55-1", *more: Plan) -> Plan:
    """A host with a tool shell, a server behind npx, and a server of its own."""
    marks = marks_of(mark)
    stage.script("exec")
    server = plan("server", ["node", stage.script("_npx/1/node_modules/.bin/mcp-server-memory")])
    shell = plan("wrapper", ["sh", "-c", PUPPET], server)
    package = ["npm", "exec", "@modelcontextprotocol/server-memory", "--token", "hunter2hunter2"]
    npx = plan("npx", package, shell, env=marks, cwd=str(stage.folder))
    flow = plan("flow", ["node", stage.script("g/node_modules/flow-nexus/cli.js"), "mcp", "start"], env=marks)
    job = plan("job", ["make", "-c", PUPPET])
    tool = plan("tool", ["bash", "-c", PUPPET], job, env={**marks, "CLAUDE_PID": "mine"})
    return plan("host", ["claude", "-c", PUPPET], npx, flow, tool, *more)
