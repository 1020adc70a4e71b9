"""Which processes of our own user run agents: each command line is read once, and again after an exec.

The catalog costs a megabyte, so it is loaded for the first command line that has a word of a known host in it (or at
once if the user has a catalog of their own). A new process is read again at each look as long as it is young, and
once after that, as it may have been seen between fork and exec, and its name may stay the same (looks may be 10 ms
apart); from then on, whenever it changes its name. Not here: what is done about hosts (``unregistered.py``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container, Mapping

assert sys.platform == "linux"

from oomless.paths import Paths
from oomless.platform import proc
from oomless.platform.proc import Stat
from oomless.processes.descent import Who

#: One of these is in every command line of a host that the catalog knows (checked by a test).
HINTS = (b"claude", b"codex", b"gemini", b"opencode", b"cursor-agent")
#: Seconds within which whoever is forked has become what it is to be; an admitted tree's root waits for its groups.
YOUNG = 2.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Recogniser:
    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, str]] = {}
        self._again: set[int] = set()
        self._hosts: dict[Who, str] = {}
        self._uid = os.geteuid()

    def look(self, table: Mapping[int, Stat], executed: Container[int] = ()) -> dict[Who, str]:
        """The hosts' processes and their names. Unreadable is like unknown."""
        again, self._again = self._again, set()
        seen, self._seen = self._seen, {}
        hosts, self._hosts = self._hosts, {}
        young = (time.clock_gettime(time.CLOCK_BOOTTIME) - YOUNG) * _TICKS
        for pid, stat in table.items():
            known = seen.get(pid)
            new = known is None or known[0] != stat.start
            if new or stat.start > young:
                self._again.add(pid)
            if known is not None and not new and known[1] == stat.comm and pid not in again and pid not in executed:
                self._seen[pid] = known
                if (pid, stat.start) in hosts:
                    self._hosts[(pid, stat.start)] = hosts[(pid, stat.start)]
                continue
            self._seen[pid] = (stat.start, stat.comm)
            raw = proc.read_file(f"/proc/{pid}/cmdline")
            # Whoever is ending or dead has no arguments any more: it stays what it was.
            host = self._host(pid, raw) if raw else hosts.get((pid, stat.start), "")
            if host:
                self._hosts[(pid, stat.start)] = host
        return self._hosts

    def _host(self, pid: int, raw: bytes) -> str:
        if not (any(hint in raw for hint in HINTS) or os.path.exists(Paths().catalog_file)):
            return ""
        try:
            if os.stat(f"/proc/{pid}").st_uid != self._uid:
                return ""
        except OSError:
            return ""
        from oomless.daemon.sessions.programs import known_programs

        argv = tuple(part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0"))
        known = known_programs().recognise(argv)
        return known.program.name if known is not None and known.program.host else ""
