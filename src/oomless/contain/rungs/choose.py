"""Which rungs a process may have on this machine: best first, each with the reason why it is or is not taken.

The cgroups of the process that asks count, so that limits above it hold too. A rung is offered only after a group has
been made and removed there; the answer is remembered by folder.

The names are ``cgroup2+systemd`` (v2 with its own controllers, in a scope of systemd's user manager), ``cgroup2``
(the same wherever we may write), ``cgroup2+cgroup1`` (v2 ends the tree, v1 bounds it), ``cgroup1``, ``pid-namespace``
(only where the settings ask for it) and ``subreaper``.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.base import PID_NAMESPACE, SUBREAPER, SUBREAPER_GAP, SYSTEMD_SCOPE
from oomless.contain.rungs.systemd_scope import DelegatedScope
from oomless.platform import cgroup


class Offer:
    """One rung for one process. ``bases``: the folder per hierarchy in which the tree's own is made."""

    __slots__ = ("bases", "name", "usable", "why")

    def __init__(self, name: str, usable: bool, why: str, bases: dict[str, str] | None = None) -> None:
        self.name = name
        self.usable = usable
        self.why = why
        self.bases = bases or {}

    def cgroups(self, leaf: str) -> dict[str, str]:
        return {controller: f"{base}/{leaf}" for controller, base in self.bases.items()}


class RungChooser:
    """``tag`` makes the probe folders ours (the install id). Reads the mount table once."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._mounts = cgroup.mount_points()
        self._probed: dict[str, Probe] = {}
        self._namespace: tuple[bool, str] | None = None
        self._scope = DelegatedScope(tag, self._mounts.get(""))

    def offers(self, groups: dict[str, str], wanted: str | None = None) -> list[Offer]:
        """All rungs, best first; ``groups`` are those of the process that asks (``proc.cgroups``). ``wanted``: None
        for all; else a rung that is opt-in is only among them if it is that one. Who wants the one that is always to
        be had leaves no scope of systemd's behind."""
        bases = {name: self._base_v1(name, groups) for name in ("memory", "pids")}
        v1 = {name: base for name, (base, _) in bases.items() if base}
        v2, has_memory, reason_v2 = self._base_v2(groups)
        reason_v1 = "; ".join(reason for _, reason in bases.values())
        both = bool(v2 and not has_memory and v1)
        scope, reason_scope = ("", "not asked for") if wanted == SUBREAPER else self._scope.offer(groups)
        return [
            Offer(SYSTEMD_SCOPE, bool(scope), reason_scope, {"": scope}),
            Offer("cgroup2", bool(v2 and (has_memory or not v1)), reason_v2, {"": v2}),
            Offer("cgroup2+cgroup1", both, f"{reason_v2}; {reason_v1}", {"": v2, **v1}),
            Offer("cgroup1", "memory" in v1 and "pids" in v1, reason_v1, v1),
            *([self._offer_namespace()] if wanted in (None, PID_NAMESPACE) else []),
            Offer(SUBREAPER, True, f"works everywhere; {SUBREAPER_GAP}"),
        ]

    def choose(self, groups: dict[str, str], wanted: str = "auto") -> Offer:
        """The best usable one, or the one that the settings want; if that is not to be had, the best all the same,
        and the offer says so."""
        offers = self.offers(groups, wanted)
        usable = [offer for offer in offers if offer.usable]
        best = next((offer for offer in usable if offer.name == wanted), usable[0])
        if wanted not in ("auto", best.name):
            missing = "".join(f" ({offer.why})" for offer in offers if offer.name == wanted)
            best.why = f"{wanted} is wanted by the settings and not to be had{missing}; {best.why}"
        return best

    def _offer_namespace(self) -> Offer:
        """Tried once, and only where it is asked for: it makes namespaces, which some systems log."""
        if self._namespace is None:
            from oomless.contain.rungs.pid_namespace import try_namespace

            self._namespace = try_namespace()
        return Offer(PID_NAMESPACE, *self._namespace)

    def _base_v1(self, controller: str, groups: dict[str, str]) -> tuple[str, str]:
        """Base folder of a v1 controller (or "") and the reason."""
        mount, path = self._mounts.get(controller), groups.get(controller)
        if mount is None or path is None:
            return "", f"no v1 {controller} controller"
        base = (mount + path).rstrip("/")
        failure = self._probe(base).failure
        if failure:
            return "", f"v1 {controller}: {failure}"
        return base, f"v1 {controller} is writable"

    def _base_v2(self, groups: dict[str, str]) -> tuple[str, bool, str]:
        """Base folder of the v2 tree (or ""), whether memory is bounded there, and the reason."""
        mount, path = self._mounts.get(""), groups.get("")
        if mount is None or path is None:
            return "", False, "no v2 tree is mounted"
        own = (mount + path).rstrip("/")
        base = own
        while True:  # the nearest group whose children get the memory controller
            if self._probe(base).has_memory:
                return base, True, f"v2 is writable at {base}, with the memory controller"
            if len(base) <= len(mount):
                break
            base = os.path.dirname(base)
        probe = self._probe(own)
        if probe.failure:
            return "", False, f"v2: {probe.failure}"
        if not probe.has_kill:
            return "", False, "v2: this kernel has no cgroup.kill (it came with 5.14)"
        return own, False, "v2 is writable, with cgroup.kill and without the memory controller"

    def _probe(self, base: str) -> Probe:
        if base not in self._probed:
            self._probed[base] = Probe(base, self._tag)
        return self._probed[base]


class Probe:
    """What a group made in ``base`` and removed again has; ``failure``: why it could not be made, or ""."""

    __slots__ = ("failure", "has_kill", "has_memory")

    def __init__(self, base: str, tag: str) -> None:
        self.has_memory = self.has_kill = False
        self.failure = ""
        try:
            self.has_memory, self.has_kill = cgroup.probe(f"{base}/oomless-{tag}-probe-{os.getpid()}")
        except OSError as error:
            self.failure = f"cannot make a group in {base} ({error.strerror})"
