"""Requests to systemd's manager of this user: a scope of our own, and that a process be moved into it.

An ordinary user may move a process only within a subtree of groups that is the user's own. A user who logged in by
ssh or on a terminal is outside of that (in ``session-N.scope``, which is root's); the manager moves such a process,
with the help of the system's manager, which checks that process and groups are of one user. Standard library only.

Measured with systemd 252 and 257: what ``systemctl --user`` uses, the socket ``systemd/private``, answers without a
message bus and sends the ends of jobs unasked; the bus beside it is the second choice, and wants a subscription.
"""

from __future__ import annotations

import errno
import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.dbus import Bus, BusRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME, OBJECT, INTERFACE = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_BUS, _BUS_OBJECT = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_MATCH = f"type='signal',interface='{INTERFACE}',member='JobRemoved'"
#: All of one conversation.
SECONDS = 5.0
_INFINITY = 2**64 - 1


def sockets() -> list[tuple[str, bool]]:
    """Where this user's manager may be reached, best first, and whether that is a message bus. The folder is looked
    for under its usual name too: a changed XDG_RUNTIME_DIR moves no manager."""
    folders = dict.fromkeys(filter(None, (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}")))
    places = [(f"{folder}/{name}", name == "bus") for name in ("systemd/private", "bus") for folder in folders]
    return [place for place in places if os.path.exists(place[0])]


class SystemdManager:
    """One conversation; raises OSError (``BusRefused`` if the manager says no)."""

    def __init__(self, path: str, is_bus: bool, seconds: float = SECONDS) -> None:
        self._bus = Bus(path, seconds)
        self._name = NAME if is_bus else ""
        self._subscribed = not is_bus
        try:
            if is_bus:
                self._bus.call(_BUS, _BUS_OBJECT, _BUS, "Hello")
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_user(cls, seconds: float = SECONDS) -> SystemdManager:
        """The first that answers."""
        failed = OSError(errno.ENOENT, "no systemd user manager is there")
        for path, is_bus in sockets():
            try:
                return cls(path, is_bus, seconds)
            except OSError as error:
                failed = OSError(error.errno, f"{path}: {error.strerror}")
        raise failed

    def close(self) -> None:
        self._bus.close()

    def _call(self, member: str, signature: str = "", *values: Any) -> list[Any]:
        return self._bus.call(self._name, OBJECT, INTERFACE, member, signature, *values)

    def start_scope(self, unit: str, pid: int, what: str) -> None:
        """A scope around that process, whose groups are ours to divide; returns once it has been moved there."""
        if not self._subscribed:
            self._bus.call(_BUS, _BUS_OBJECT, _BUS, "AddMatch", "s", _MATCH)
            self._call("Subscribe")
            self._subscribed = True
        properties = [
            ("Description", ("s", what)),
            ("PIDs", ("au", [pid])),
            ("Delegate", ("b", True)),
            ("CollectMode", ("s", "inactive-or-failed")),
            # It holds all trees, each with its own limit: the manager's default would bound them together.
            ("TasksMax", ("t", _INFINITY)),
        ]
        try:
            # A tree that the kernel ended at its limit must not take the others along.
            job = self._start(unit, [*properties, ("OOMPolicy", ("s", "continue"))])
        except BusRefused as error:
            if "OOMPolicy" not in (error.strerror or ""):
                raise
            job = self._start(unit, properties)  # it knows none for scopes, so it does not act either
        *_, result = self._bus.signal("JobRemoved", lambda values: values[1] == job)
        if result != "done":
            raise OSError(errno.EPROTO, f"the systemd user manager did not start {unit}: {result}")

    def _start(self, unit: str, properties: list[tuple[str, tuple[str, Any]]]) -> str:
        return str(self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", properties, [])[0])

    def attach(self, unit: str, folder: str, pid: int) -> None:
        """Moves a process of ours into a group (``/name``, which exists) below that of a unit of ours."""
        self._call("AttachProcessesToUnit", "ssau", unit, folder, [pid])

    def group_of(self, unit: str) -> str:
        """The path of a scope in the v2 tree; BusRefused if there is no such unit."""
        (path,) = self._call("GetUnit", "s", unit)
        asked = ("org.freedesktop.systemd1.Scope", "ControlGroup")
        (group,) = self._bus.call(self._name, path, "org.freedesktop.DBus.Properties", "Get", "ss", *asked)
        return str(group)
