"""The made-up host: its hooks' JSON, and its settings, ``{"on": {"<event>": ["<command>", "<argument>", ...]}}``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from made_up_host.facts import FACTS, HOME_VARIABLE
from oomless import jsontext, userfile
from oomless.hosts.events import (
    HookMapping,
    HostEvent,
    OtherEvent,
    SubagentRequested,
    SubagentStarted,
    SubagentStopped,
)
from oomless.hosts.installation import (
    Before,
    Change,
    HookTarget,
    HostView,
    Remembered,
    apply_change,
    read_record,
)
from oomless.paths import Paths
from oomless.userfile import UserFile

COMMAND = os.path.join(os.path.dirname(__file__), "command.py")
MAX_BYTES = 2**20


class MadeUpHooks:
    host = FACTS.name
    answer_within = 60.0
    subagent_bytes = 30 * 10**6

    def parse_event(self, body: bytes) -> HostEvent:
        event = json.loads(body)
        match event.get("what"):
            case "ask":
                return SubagentRequested(
                    session=event["run"], request=event["task"], agent_type=event["role"], cwd=event["folder"]
                )
            case "runs":
                return SubagentStarted(session=event["run"], agent=event["worker"], agent_type=event["role"])
            case "done":
                return SubagentStopped(session=event["run"], agent=event["worker"])
        return OtherEvent()

    def acknowledge(self) -> bytes:
        return b"{}"

    def allow(self) -> bytes:
        return b'{"go": true}'

    def refuse(self, reason: str, never: bool) -> bytes:
        return json.dumps({"go": False, "say": reason}).encode()


class MadeUp:
    facts = FACTS

    def hook_mapping(self) -> HookMapping:
        return MadeUpHooks()

    def open_settings(self, environ: Mapping[str, str]) -> UserFile:
        file = userfile.read(os.path.join(environ[HOME_VARIABLE], "settings.json"), MAX_BYTES)
        userfile.check_writable(file)
        return file

    def plan_install(self, paths: Paths, file: UserFile, target: HookTarget, *, hooks_only: bool) -> Change:
        text = file.text() or "{}\n"
        known = read_record(paths, FACTS.name).files.get(file.real)
        had_none = jsontext.find_item(text, ("on",)) is None
        before = known.before if known else Before(empty=() if had_none else ("on",))
        if had_none:
            text = jsontext.put_value(text, ("on",), {})
        for event in FACTS.hook_events:
            text = jsontext.put_value(text, ("on", event), [sys.executable, COMMAND, event])
        return Change(file=file, new=text, remember=Remembered(prefix=None, before=before))

    def plan_uninstall(self, paths: Paths, environ: Mapping[str, str]) -> Change:
        file = self.open_settings(environ)
        text = file.text()
        known = read_record(paths, FACTS.name).files.get(file.real)
        for event in FACTS.hook_events if known else ():
            if jsontext.find_item(text, ("on", event)) is not None:
                text = jsontext.drop_item(text, ("on", event))
        if known and "on" not in known.before.empty:
            text = jsontext.drop_item(text, ("on",))
        return Change(file=file, new=text, remember=None)

    def apply(self, paths: Paths, change: Change) -> str | None:
        return apply_change(paths, FACTS.name, change)

    def check(self, paths: Paths, environ: Mapping[str, str], cwd: str, target: HookTarget) -> HostView:
        file = self.open_settings(environ)
        on = jsontext.read_value(file.text() or "{}", ("on",))
        here = [event for event in FACTS.hook_events if isinstance(on, dict) and event in on]
        return HostView(
            host=FACTS.name,
            program=None,
            version=None,
            settings=file.path,
            hooks="installed" if len(here) == len(FACTS.hook_events) else "partly" if here else "none",
            prefix="none",
        )


HOST = MadeUp()
