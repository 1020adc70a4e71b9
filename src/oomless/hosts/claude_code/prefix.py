"""The prefix program itself: a small shell script in the state folder, written at install.

The host runs it as ``prefix 'LINE'`` for each stdio MCP server, each tool shell and each command hook (measured
with Claude Code 2.1.330: ``CLAUDE_CODE_SHELL_PREFIX``). It tells them apart by the marks in the environment, in a
millisecond, and hands servers and tool shells to Python; hooks and what it does not know run as if it were not
there.
"""

from __future__ import annotations

import os
import shlex
import sys

from oomless import atomicfile
from oomless.errors import StateUnwritable
from oomless.paths import Paths

SCRIPT = """\
#!/bin/sh
# Written by `oomless install`; `oomless uninstall` takes it out of the settings again.
# A tool shell has CLAUDE_PID and sources a shell snapshot; a server has neither CLAUDE_PID nor
# CLAUDE_CODE_CHILD_SESSION, but the sessions it was started for; a hook is none of both.
kind=
if [ $# -eq 1 ]; then
    if [ -n "$CLAUDE_PID" ]; then
        case $1 in "source "*/shell-snapshots/snapshot-*) kind=shell ;; esac
    elif [ -n "$CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS" ] && [ -z "$CLAUDE_CODE_CHILD_SESSION" ]; then
        kind=server
    fi
fi
if [ -n "$kind" ] && [ -x {python} ] && [ -r {boot} ]; then
    exec {python} -I -S -E {boot} "$kind" "$1" {former}
fi
{through}
"""

#: How Claude Code runs these without a prefix: tool shells by bash or zsh, everything else by sh.
PLAIN = """\
shell=
case $1 in
    "source "*/shell-snapshots/snapshot-zsh-*) shell=zsh ;;
    "source "*/shell-snapshots/*) shell=bash ;;
esac
case $SHELL in */"$shell") shell=$SHELL ;; esac
[ "$kind" = server ] && set -- "exec $1"
exec "${shell:-/bin/sh}" -c "$1"
"""


def prefix_path(paths: Paths) -> str:
    return os.path.join(paths.state, "prefix")


def text(former: str | None) -> str:
    """The script; ``former``: the prefix that was in the settings before, which goes on being used."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    boot = os.path.join(package, "cli", "boot_prefix.py")
    inner = words(former) if former else ""
    through = f'exec {inner} "$@"' if former else PLAIN
    return SCRIPT.format(
        python=shlex.quote(sys.executable),
        boot=shlex.quote(boot),
        former=shlex.quote(inner) if former else "",
        through=through,
    )


def words(former: str) -> str:
    """Another program's prefix as the host reads it (Claude Code 2.1.330): one path, which may have spaces in it, and
    options behind the last `` -``."""
    path, dash, options = former.rpartition(" -")
    return f"{shlex.quote(path)} -{options}" if dash and path else shlex.quote(former)


def write(paths: Paths, former: str | None) -> str:
    """Writes the script (atomically, 0755) and returns its path; raises StateUnwritable."""
    paths.make()
    path = prefix_path(paths)
    try:
        atomicfile.write(path, text(former), 0o755)
    except OSError as error:
        raise StateUnwritable(f"cannot write {path}", error.strerror or str(error), "free disk space") from None
    return path
