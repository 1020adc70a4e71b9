"""What the scripted model tells each real agent to do: one page of the incident, the same for every act. Pure.

An agent starts a background Bash child and calls the quick tools of its servers, starts one subagent (which runs a
Bash command of its own), makes the slow call and says meanwhile that it is half-way, writes its result, and stops its
background child: Claude Code 2.1.330 with ``-p`` would wait for that one's end (measured: 300 s for a ``sleep 300``).
Where an act's files go is in the environment (``agents.FOLDER``), so that one script and one model do for all acts.
"""

from __future__ import annotations

from collections.abc import Iterable

from oomless.demo.agents import FOLDER
from oomless.demo.model.script import Call, Rule, Script, Turn
from oomless.demo.parts.servers import ServerPart

#: The incident's pages, one for each agent.
PAGES = ("services", "resources", "network", "request", "news")
#: The tool call that takes its time (7 s: it asks its maker's service in vain); all others take 0.1 to 2 s.
SLOW = "flow-nexus"
#: Seconds: what an agent has to do where that server is missing, what a subagent thinks about, and until a background
#: child ends whatever happens.
SLOW_SECONDS, SUBAGENT_SECONDS, CHILD_SECONDS = 7, 1.5, 300


def prompt(page: str) -> str:
    return f"AGENT={page} build the {page} page"


def group(page: str) -> str:
    """Under which a page's subagent is in the model's log; its session's own requests are under the page."""
    return f"subagent of {page}"


def script(servers: Iterable[ServerPart]) -> Script:
    listed = tuple(servers)
    return Script(rules=tuple(rule for page in PAGES for rule in (_agent(page, listed), _subagent(page))))


def _agent(page: str, servers: tuple[ServerPart, ...]) -> Rule:
    quick = [tool(server) for server in servers if server.name != SLOW]
    slow = [tool(server) for server in servers if server.name == SLOW] or [_bash(f"sleep {SLOW_SECONDS}")]
    child = _bash(f'echo $$ > "${FOLDER}/{page}.child"; exec sleep {CHILD_SECONDS}', background=True)
    subagent = Call(
        name="Agent",
        input={
            "description": f"look at the {page} page",
            "prompt": f"SUBAGENT={page} look",
            "subagent_type": "general-purpose",
        },
    )
    turns = (
        Turn(calls=(child, *quick)),
        Turn(calls=(subagent, _bash(f'sleep 1; touch "${FOLDER}/{page}.half"', background=True))),
        Turn(calls=tuple(slow)),
        Turn(calls=(_bash(_result(page)),)),
        Turn(text=f"The {page} page is done."),
    )
    return Rule(kind="main", marker=f"AGENT={page}", group=page, turns=turns)


def _subagent(page: str) -> Rule:
    turns = (
        Turn(calls=(_bash(f"echo the {page} page has no header"),)),
        Turn(text="It has no header.", delay=SUBAGENT_SECONDS),
    )
    return Rule(kind="subagent", marker=f"SUBAGENT={page}", group=group(page), turns=turns)


def tool(server: ServerPart) -> Call:
    return Call(name=tool_name(server), input=server.arguments)


def tool_name(server: ServerPart) -> str:
    return f"mcp__{server.name}__{server.tool}"


def _bash(command: str, *, background: bool = False) -> Call:
    more = {"run_in_background": True} if background else {}
    return Call(name="Bash", input={"command": command, "description": "build", **more})


def _result(page: str) -> str:
    """The file is whole or absent; a second result is not taken for the first."""
    file, draft = f'"${FOLDER}/{page}', f'"${FOLDER}/.{page}.$$"'
    return (
        f'echo \'{{"page": "{page}"}}\' > {draft} && '
        f'{{ ln {draft} {file}.json" 2>/dev/null && rm {draft} || mv {draft} {file}.again"; }}; '
        f'kill "$(cat {file}.child")"'
    )
