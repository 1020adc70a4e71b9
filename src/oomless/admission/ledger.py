"""Adds up what is reserved and used by the open trees; the inequalities are in ``policy.py``.

Trees nest (a governed command that calls ``oomless run`` again), and so do their cgroups: the use of a nested tree
is part of its parent's. So a tree is expected to reach ``max(reserved, used + what its nested ones will still
grow)``, and only outermost trees are added up. For trees without nested ones that is ``max(reserved, used)``.
"""

from __future__ import annotations

from collections.abc import Mapping

from oomless.admission.events import Ask, Holder
from oomless.admission.state import Reservation


class LedgerNode:
    """One open tree with its sums. ``places``: a tree and the first tree nested in it share one; one that takes none
    of its own (``Reservation.takes_place``) has those of what is nested in it."""

    __slots__ = ("expected", "growth", "nested", "places", "reservation", "used")

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.nested: list[LedgerNode] = []
        self.used = self.expected = self.growth = 0
        self.places = int(reservation.takes_place)

    def add_up(self) -> None:
        """Needs the sums of the nested ones. A parent measured before its nested ones cannot use less than they."""
        own, nested = self.reservation, self.nested
        if not nested:
            self.used = own.used
            self.expected = own.reserved if own.reserved > own.used else own.used
        else:
            self.used = max(own.used, sum(n.used for n in nested))
            self.expected = max(own.reserved, self.used + sum(n.growth for n in nested))
            self.places = max(self.places, sum(n.places for n in nested))
        self.growth = self.expected - self.used

    @property
    def free(self) -> int:
        """What is left of the reservation for further nested trees."""
        return max(0, self.reservation.reserved - self.used - sum(n.growth for n in self.nested))


class Sums:
    """The totals over some outermost trees; ``members`` are they and everything nested in them, but for what takes no
    place: a server lives as long as its session and makes no room."""

    __slots__ = ("expected", "growth", "holders", "members", "placed", "places", "used")

    def __init__(self, roots: list[LedgerNode]) -> None:
        self.expected = sum(n.expected for n in roots)
        self.growth = sum(n.growth for n in roots)
        self.used = sum(n.used for n in roots)
        self.places = sum(n.places for n in roots)
        largest_first = sorted(roots, key=lambda n: -n.expected)
        self.holders = tuple(holder(n) for n in largest_first)
        self.placed = tuple(holder(n) for n in largest_first if n.places)
        self.members = frozenset(n.reservation.id for n in outermost_first(roots) if n.reservation.takes_place)


def holder(node: LedgerNode) -> Holder:
    return Holder(id=node.reservation.id, name=node.reservation.terms.name, bytes=node.expected)


class Charge:
    """What an ask adds to one total: bytes and places."""

    __slots__ = ("bytes", "places")

    def __init__(self, size: int, places: int) -> None:
        self.bytes, self.places = size, places


class Ledger:
    """All sums over one set of reservations; made anew when the set changes (0.3 ms at 200 trees)."""

    __slots__ = ("_sums", "nodes")

    def __init__(self, reservations: Mapping[str, Reservation]) -> None:
        self.nodes = {id: LedgerNode(reservation) for id, reservation in reservations.items()}
        roots: list[LedgerNode] = []
        for node in self.nodes.values():
            parent = self.nodes.get(node.reservation.terms.parent or "")
            (roots if parent is None else parent.nested).append(node)
        for node in reversed(outermost_first(roots)):
            node.add_up()
        self._sums: dict[str | None, Sums] = {None: Sums(roots)}

    def sums(self, group: str | None = None) -> Sums:
        """Over one group, or over everything."""
        if group not in self._sums:
            inside = [n for n in self.nodes.values() if n.reservation.terms.group == group]
            roots = [
                n
                for n in inside
                if all(a.reservation.terms.group != group for a in self.ancestors(n.reservation.terms.parent))
            ]
            self._sums[group] = Sums(roots)
        return self._sums[group]

    def ancestors(self, parent: str | None) -> list[LedgerNode]:
        """The open trees around a tree with that parent, innermost first."""
        nodes = []
        node = self.nodes.get(parent or "")
        while node is not None:
            nodes.append(node)
            node = self.nodes.get(node.reservation.terms.parent or "")
        return nodes

    def charge(self, ask: Ask, around: list[LedgerNode], group: str | None = None) -> Charge:
        """What the ask adds to the totals of a group or of everything, ``around`` being its ancestors: only what
        no reservation around it covers, and no place if it is the only one nested in its parent."""
        charge, size, places = Charge(ask.need, 1), ask.need, 1
        for node in around:
            size = max(0, size - node.free)
            nested = sum(n.places for n in node.nested)
            places = max(int(node.reservation.takes_place), nested + places) - node.places
            if group is None or node.reservation.terms.group == group:
                charge = Charge(size, places)
        return charge


def outermost_first(roots: list[LedgerNode]) -> list[LedgerNode]:
    """Every node under these, each before what is nested in it."""
    order = list(roots)
    for node in order:
        order.extend(node.nested)
    return order
