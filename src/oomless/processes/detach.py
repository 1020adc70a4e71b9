"""Which processes of a dead session detached on purpose, and why: pure, over their descent and a few facts about
each.

A *tool shell* is a direct child of the session's process that leads a process session of its own; commands left in
its background stay in that process session. Whatever left it, or ignores SIGHUP, was asked to outlive the session. A
*server* is any other direct child. A watched session, unlike a contained tree, cannot tell who uses a listening
socket, so a listener is spared too, and so is a daemon that a server started for others while the session lived.

Standard library only.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from oomless.processes.descent import Descent
    from oomless.processes.ids import ProcessId

OWN_SESSION = "it started a process session of its own (setsid)"
DAEMON = "it made itself a daemon while its session lived"


class SurvivalFacts(NamedTuple):
    """One process after its session's death.

    ``protected`` is the title of the editor, terminal or multiplexer that it is, or "". ``host``: the program runs
    agents itself. ``driven``: a browser that is controlled over a pipe. ``crash_handler``: a browser's crash handler,
    which forks twice and yet serves that browser alone. ``stray_server``: it leads a process session and has the
    marks of a server, which a server that the host started itself never does.
    """

    sid: int
    leads_session: bool = False
    ignores_hangup: bool = False
    listens: bool = False
    protected: str = ""
    host: bool = False
    driven: bool = False
    crash_handler: bool = False
    stray_server: bool = False


def detach_reasons(
    descents: Mapping[ProcessId, Descent],
    facts: Mapping[ProcessId, SurvivalFacts],
    earlier: Mapping[ProcessId, str] | None = None,
) -> dict[ProcessId, str]:
    """Returns the reason of each process in ``facts`` that is left alone; all others are leftovers.

    ``earlier`` are the reasons of previous calls, which stay: a process may since have lost the parent that it was
    spared for.
    """
    driven = {process.pid for process, fact in facts.items() if fact.driven}
    reasons = {
        process: reason
        for process, fact in facts.items()
        if (reason := detach_reason(descents[process], fact, driven))
    }
    reasons |= earlier or {}
    for process in facts:
        if process not in reasons:
            ancestor = next((above for above in descents[process].above if above in reasons), None)
            if ancestor is not None:
                reasons[process] = f"started by {ancestor[0]}, which is detached"
    for process, fact in facts.items():
        if fact.listens or fact.protected:
            # A wrapper in between would pass our signal on, or take an editor's terminal with it. The tool shell or
            # server at the top is not kept.
            reason = f"is never ended ({fact.protected})" if fact.protected else "listens on a port"
            for above in descents[process].above[1:]:
                if above in facts:
                    reasons.setdefault(above, f"{process.pid} below it {reason}")
    return reasons


def detach_reason(descent: Descent, fact: SurvivalFacts, driven: Container[int]) -> str:
    """Returns why the process itself counts as detached, or "".

    ``driven`` are the pids of driven browsers: Playwright makes each of them lead a process session, which says
    nothing about what the person wanted.
    """
    if fact.protected:
        return f"{fact.protected} is never ended"
    if fact.host and fact.leads_session:
        return "it runs agents in the background"
    left_shell = descent.shell_sid is not None and fact.sid != descent.shell_sid and fact.sid not in driven
    if (fact.stray_server and not descent.above) or (left_shell and not fact.crash_handler):
        return OWN_SESSION
    if fact.ignores_hangup:
        return "it ignores SIGHUP (nohup)"
    return "it listens on a port" if fact.listens else ""
