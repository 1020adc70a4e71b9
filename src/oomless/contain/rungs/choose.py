"""Which rung a machine offers to whom: best first, each with the reason why it is or is not taken.

The daemon chooses for the process that asks (its cgroups count, so that limits above it hold too), and ``doctor``
prints the same answer. A rung is offered only after a directory has been made and removed there; the answer is
remembered by place. Not here: the rungs (``members.py``).

The names are ``cgroup2+systemd`` (v2 with its own controllers, in a scope of systemd's user manager), ``cgroup2``
(the same wherever we may write), ``cgroup2+cgroup1`` (v2 ends the tree, v1 bounds it), ``cgroup1``, ``pid-namespace``
(only where the settings ask for it) and ``subreaper``.
"""

from __future__ import annotations

import os
import sys

assert sys.platform == "linux"

from oomless.contain.rungs.systemd_delegation import Delegation
from oomless.platform import files, proc

#: What descent cannot reach, said beforehand by ``doctor`` and in the record of a tree whose shim was killed.
SUBREAPER_GAP = (
    "if its shim is killed, a process that wiped its environment and lost its parent within the last second "
    "cannot be told from others"
)
#: The one rung that is opt-in.
PID_NAMESPACE = "pid-namespace"
#: The one that is always to be had.
SUBREAPER = "subreaper"


class Offer:
    """One rung for one asker. ``bases``: the folder per hierarchy in which the tree's own is made."""

    __slots__ = ("bases", "name", "usable", "why")

    def __init__(self, name: str, usable: bool, why: str, bases: dict[str, str] | None = None) -> None:
        self.name = name
        self.usable = usable
        self.why = why
        self.bases = bases or {}

    def cgroups(self, leaf: str) -> dict[str, str]:
        return {controller: f"{base}/{leaf}" for controller, base in self.bases.items()}


class Ladder:
    """``tag`` makes the probe folders ours (the install id). Looks at the mounts once."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._mounts = mounts()
        self._probed: dict[str, tuple[frozenset[str], str]] = {}
        self._namespace: tuple[bool, str] | None = None
        self._delegation = Delegation(tag, self._mounts.get(""))

    def offers(self, cgroups: dict[str, str], wanted: str | None = None) -> list[Offer]:
        """All rungs, best first; ``cgroups`` are those of the process that asks (``proc.cgroups``). ``wanted``:
        None for all; else a rung that is opt-in is only among them if it is that one. Who wants the one that is
        always to be had leaves no scope of systemd's behind."""
        one = {name: self._one(name, cgroups) for name in ("memory", "pids")}
        v1 = {name: base for name, (base, _) in one.items() if base}
        unified, has_memory, why2 = self._two(cgroups)
        why1 = "; ".join(why for _, why in one.values())
        both = bool(unified and not has_memory and v1)
        scope, why_scope = ("", "not asked for") if wanted == SUBREAPER else self._delegation.offer(cgroups)
        return [
            Offer("cgroup2+systemd", bool(scope), why_scope, {"": scope}),
            Offer("cgroup2", bool(unified and (has_memory or not v1)), why2, {"": unified}),
            Offer("cgroup2+cgroup1", both, f"{why2}; {why1}", {"": unified, **v1}),
            Offer("cgroup1", "memory" in v1 and "pids" in v1, why1, v1),
            *([self._isolated()] if wanted in (None, PID_NAMESPACE) else []),
            Offer(SUBREAPER, True, f"works everywhere; {SUBREAPER_GAP}"),
        ]

    def choose(self, cgroups: dict[str, str], wanted: str = "auto") -> Offer:
        """The best usable one, or the one that the settings want; if that is not to be had, the best all the same,
        and the offer says so."""
        offers = self.offers(cgroups, wanted)
        usable = [offer for offer in offers if offer.usable]
        best = next((offer for offer in usable if offer.name == wanted), usable[0])
        if wanted not in ("auto", best.name):
            missing = "".join(f" ({offer.why})" for offer in offers if offer.name == wanted)
            best.why = f"{wanted} is wanted by the settings and not to be had{missing}; {best.why}"
        return best

    def _isolated(self) -> Offer:
        """Tried once, and only for who asks: it makes namespaces, which some systems log."""
        if self._namespace is None:
            from oomless.contain.rungs.pid_namespace import offered

            self._namespace = offered()
        return Offer(PID_NAMESPACE, *self._namespace)

    def _one(self, controller: str, cgroups: dict[str, str]) -> tuple[str, str]:
        """Base folder of a v1 controller (or "") and why."""
        mount, path = self._mounts.get(controller), cgroups.get(controller)
        if mount is None or path is None:
            return "", f"no v1 {controller} controller"
        base = (mount + path).rstrip("/")
        _, why = self._probe(base)
        return ("" if why else base), (f"v1 {controller}: {why}" if why else f"v1 {controller} is writable")

    def _two(self, cgroups: dict[str, str]) -> tuple[str, bool, str]:
        """Base folder of the v2 tree (or ""), whether memory is bounded there, and why."""
        mount, path = self._mounts.get(""), cgroups.get("")
        if mount is None or path is None:
            return "", False, "no v2 tree is mounted"
        own = (mount + path).rstrip("/")
        base = own
        while True:  # the nearest group whose children get the memory controller
            found, why = self._probe(base)
            if "memory.max" in found:
                return base, True, f"v2 is writable at {base}, with the memory controller"
            if len(base) <= len(mount):
                break
            base = os.path.dirname(base)
        found, why = self._probe(own)
        if why:
            return "", False, f"v2: {why}"
        if "cgroup.kill" not in found:
            return "", False, "v2: this kernel has no cgroup.kill (it came with 5.14)"
        return own, False, "v2 is writable, with cgroup.kill and without the memory controller"

    def _probe(self, base: str) -> tuple[frozenset[str], str]:
        """The control files that a folder made there has, and why it could not be made."""
        if base not in self._probed:
            self._probed[base] = probe(base, self._tag)
        return self._probed[base]


def probe(base: str, tag: str) -> tuple[frozenset[str], str]:
    folder = f"{base}/oomless-{tag}-probe-{os.getpid()}"
    try:
        os.mkdir(folder)
    except OSError as error:
        return frozenset(), f"cannot make a group in {base} ({error.strerror})"
    try:
        return frozenset(os.listdir(folder)), ""
    finally:
        files.remove_cgroup(folder)


def mounts() -> dict[str, str]:
    """Mount point per v1 controller, ``""`` for the v2 tree."""
    found: dict[str, str] = {}
    for line in (proc.read_file("/proc/self/mounts") or b"").decode("utf-8", "replace").splitlines():
        _, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("", point)
        elif kind == "cgroup":
            for option in options.split(","):
                if option in ("memory", "pids"):
                    found.setdefault(option, point)
    return found
