"""The table of commands, and ``oomless --help`` made of it: all modules of commands together take 0.2 s to load.

Standard library only. The help is word for word what typer would show (``tests/e2e/test_cli.py``), at 80 columns.
"""

from __future__ import annotations

import sys

#: By name, in the order of the help (groups come last); a summary is the first line of its command's own help.
SUMMARIES = {
    "run": "Run a command with admission control and a memory limit.",
    "batch": "Run the jobs of a file, as many at once as memory allows.",
    "scan": "Show sessions, their servers and tool shells, and their memory.",
    "diagnose": "Say what used the memory and why, with the evidence.",
    "reap": "Propose leftover processes to kill; with --yes, kill them.",
    "status": "Show what runs and what waits.",
    "doctor": "Show how trees are contained here, try a kill, check the hosts.",
    "demo": "Replay the incident: parallel, in sequence, killed, governed.",
    "install": "Install oomless into an application that runs agents.",
    "uninstall": "Take oomless out of an application again.",
    "help": "Show the help of a command.",
    "version": "Print the version.",
    "daemon": "Start, stop and inspect the daemon.",
    "config": "Show, check and import the settings.",
}
#: Their modules have a typer application (``app``), the others one function (``command``).
GROUPS = frozenset({"daemon", "config"})
#: They start, contain or install something, which is written for Linux only. ``hook`` is called by hosts, not listed.
LINUX_ONLY = frozenset({"hook", "batch", "doctor", "demo", "install", "uninstall", "daemon"})
DESCRIPTION = "Runs AI coding agents without running out of memory."
HELP_OPTIONS = ("-h", "--help")

_OPTIONS = """\
  --version             Print the version and exit.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.
"""


def is_supported(name: str) -> bool:
    """Whether this system has that command."""
    return sys.platform == "linux" or name not in LINUX_ONLY


def format_help() -> str:
    names = [name for name in SUMMARIES if is_supported(name)]
    width = max(map(len, names)) + 2
    rows = "".join(f"  {name:{width}}{SUMMARIES[name]}\n" for name in names)
    return f"Usage: oomless [OPTIONS] COMMAND [ARGS]...\n\n  {DESCRIPTION}\n\nOptions:\n{_OPTIONS}\nCommands:\n{rows}"
