"""Admission, rule by rule, and its words. The same rules under random events: ``test_admission_properties.py``."""

from __future__ import annotations

from typing import Any

import pytest

from oomless.admission.events import (
    Action,
    Admit,
    Ask,
    Configure,
    End,
    Event,
    Observe,
    Policy,
    Refuse,
    Restore,
    Tick,
    Use,
    Wait,
    Withdraw,
)
from oomless.admission.explain import explain, sum_totals
from oomless.admission.machine import initial, next_deadline, step
from oomless.admission.state import State
from oomless.model import Terms

MB, GB = 10**6, 10**9


class Machine:
    """A state that moves along; ``self(event)`` returns the actions."""

    def __init__(self, available: int = 100 * GB, **policy: Any) -> None:
        self.state: State = initial(Policy(**policy), available)

    def __call__(self, event: Event) -> tuple[Action, ...]:
        self.state, actions = step(self.state, event)
        return actions

    def ask(self, id: str, need: int | None = None, at: float = 0.0, **more: Any) -> tuple[Action, ...]:
        """Declared ``need`` unless it is None."""
        terms = {name: more.pop(name) for name in [*more] if name in Terms.__struct_fields__}
        return self(Ask(id=id, terms=Terms(**{"name": id, "need": need, **terms}), at=at, **more))

    @property
    def held(self) -> set[str]:
        return set(self.state.reservations)

    @property
    def waiting(self) -> list[str]:
        return [w.ask.id for w in self.state.queue]


def admitted(actions: tuple[Action, ...]) -> list[str]:
    return [a.id for a in actions if isinstance(a, Admit)]


def refused(actions: tuple[Action, ...]) -> list[Refuse]:
    return [a for a in actions if isinstance(a, Refuse)]


# The inequalities


@pytest.mark.parametrize(("need", "fits"), [(500 * MB, True), (500 * MB + 1, False)])
def test_budget_counts_the_larger_of_reservation_and_use(need: int, fits: bool) -> None:
    m = Machine(budget=GB)
    m.ask("a", 200 * MB)
    m.ask("b", 200 * MB)
    m(Use(id="b", used=300 * MB))
    assert (admitted(m.ask("c", need)) == ["c"]) is fits


@pytest.mark.parametrize(("need", "fits"), [(300 * MB, True), (300 * MB + 1, False)])
def test_available_counts_what_is_promised_and_not_yet_used(need: int, fits: bool) -> None:
    m = Machine(available=GB, headroom=400 * MB)
    m.ask("a", 500 * MB)
    m(Use(id="a", used=200 * MB))
    m(Observe(available=GB, at=1.0))
    assert (admitted(m.ask("b", need, at=1.0)) == ["b"]) is fits


def test_growth_since_the_last_observation_is_not_available_twice() -> None:
    """Its promise is fulfilled, and the memory it took is gone, though nobody has looked yet."""
    m = Machine(available=GB)
    m.ask("a", 500 * MB)
    m(Use(id="a", used=500 * MB))
    assert sum_totals(m.state).available == 500 * MB
    assert not admitted(m.ask("b", 600 * MB))
    assert admitted(m(Observe(available=GB, at=1.0))) == ["b"]


def test_a_ceiling_of_the_asker_counts_like_available_memory_and_is_renewed() -> None:
    m = Machine(headroom=100 * MB)
    m.ask("a", 100 * MB)
    (wait,) = m.ask("b", 300 * MB, ceiling=450 * MB)
    assert isinstance(wait, Wait)
    assert "left under its own memory limit" in wait.reason
    assert admitted(m.ask("c", 300 * MB)) == ["c"]
    assert not m(Observe(available=100 * GB, at=1.0, ceilings={"b": 799 * MB}))
    assert admitted(m(Observe(available=100 * GB, at=2.0, ceilings={"b": 800 * MB}))) == ["b"]


def test_a_ceiling_is_measured_when_it_is_asked() -> None:
    m = Machine()
    m.ask("a", 500 * MB)
    m(Use(id="a", used=500 * MB))
    assert admitted(m.ask("b", 600 * MB, ceiling=600 * MB)) == ["b"]


def test_places() -> None:
    m = Machine(max_parallel=2)
    m.ask("a", MB)
    m.ask("b", MB)
    (wait,) = m.ask("c", MB)
    assert isinstance(wait, Wait)
    assert wait.reason == "2 of 2 places taken: a (1 MB), b (1 MB)"
    assert admitted(m(End(id="a", at=1.0))) == ["c"]


def test_the_estimate_counts_where_nothing_is_declared() -> None:
    m = Machine(budget=GB)
    (action,) = m.ask("a", None, prior=300 * MB)
    assert isinstance(action, Admit)
    assert action.reserved == 300 * MB
    (action,) = m.ask("b", 100 * MB, prior=5 * GB)
    assert isinstance(action, Admit)
    assert action.reserved == 100 * MB


# Exceptions, so that nothing stalls


def test_one_may_start_whatever_its_estimate_when_nothing_is_held() -> None:
    m = Machine(available=100 * MB, budget=GB, headroom=500 * MB)
    (action,) = m.ask("huge", None, prior=9 * GB)
    assert isinstance(action, Admit)
    assert action.reason == "nothing else is running, so one may start"
    assert not admitted(m.ask("tiny", MB))
    assert admitted(m(End(id="huge", at=1.0))) == ["tiny"]


def test_declared_above_the_budget_can_never_run() -> None:
    (action,) = Machine(budget=GB).ask("a", 2 * GB, name="build")
    assert isinstance(action, Refuse)
    assert action.code == 75
    assert action.error == "'build' can never run: needs 2.00 GB, the budget is 1.00 GB"
    assert action.hint == "declare less, or raise the budget"


def test_declared_above_the_budget_of_its_group_can_never_run() -> None:
    (action,) = Machine().ask("a", 2 * GB, group="g", group_budget=GB)
    assert isinstance(action, Refuse)
    assert "can never run: needs 2.00 GB, the budget of its group is 1.00 GB" in action.error


def test_a_budget_lowered_below_a_waiting_need_refuses_it() -> None:
    m = Machine(budget=2 * GB)
    m.ask("a", GB)
    m.ask("b", 2 * GB)
    (action,) = m(Configure(policy=Policy(budget=GB)))
    assert isinstance(action, Refuse)
    assert "can never run" in action.error


def test_a_raised_budget_admits() -> None:
    m = Machine(budget=GB)
    m.ask("a", GB)
    m.ask("b", GB)
    assert admitted(m(Configure(policy=Policy(budget=2 * GB)))) == ["b"]


# Groups


def test_a_group_is_bounded_and_others_are_not() -> None:
    m = Machine()
    batch: dict[str, Any] = {"group": "g", "group_budget": GB, "group_parallel": 2}
    assert admitted(m.ask("a", 600 * MB, **batch))
    (wait,) = m.ask("b", 500 * MB, **batch)
    assert isinstance(wait, Wait)
    assert wait.reason == ("needs 500 MB, 400 MB of 1.00 GB budget of its group left, reserved by a (600 MB)")
    assert admitted(m.ask("c", 100 * MB, **batch)) == ["c"]
    assert not admitted(m.ask("d", MB, **batch)), "both places are taken"
    assert admitted(m.ask("outside", 5 * GB)) == ["outside"]


def test_an_estimate_above_the_budget_of_an_idle_group_may_try() -> None:
    m = Machine(budget=10 * GB)
    m.ask("other", GB)
    assert admitted(m.ask("a", None, prior=2 * GB, group="g", group_budget=GB)) == ["a"]
    assert not admitted(m.ask("b", None, prior=2 * GB, group="g", group_budget=GB))
    assert not admitted(m.ask("c", None, prior=9 * GB, group="h", group_budget=GB)), "the machine's own still counts"


# Nested asks


def test_nested_is_charged_to_its_parent_first() -> None:
    m = Machine(budget=GB)
    m.ask("p", GB)
    m(Use(id="p", used=100 * MB))
    (action,) = m.ask("c", 600 * MB, parent="p")
    assert isinstance(action, Admit)
    assert action.reason == "fits in the reservation of 'p'"
    assert sum_totals(m.state).reserved_bytes == GB
    assert admitted(m.ask("d", 300 * MB, parent="p")) == ["d"], "100 used, 600 and 300 taken"
    m.ask("other", MB)
    assert m.waiting == ["other"]


def test_nested_use_is_part_of_its_parents_use() -> None:
    m = Machine(budget=GB)
    m.ask("p", 500 * MB)
    m.ask("c", 300 * MB, parent="p")
    m(Use(id="p", used=400 * MB))
    m(Use(id="c", used=300 * MB))
    assert sum_totals(m.state).used_bytes == 400 * MB
    assert sum_totals(m.state).reserved_bytes == 500 * MB
    assert admitted(m.ask("other", 500 * MB)) == ["other"]


def test_what_exceeds_the_parent_counts_against_the_machine() -> None:
    m = Machine(budget=GB)
    m.ask("p", 300 * MB)
    m.ask("o", 500 * MB)
    (wait,) = m.ask("c", 501 * MB, parent="p")
    assert isinstance(wait, Wait)
    assert wait.reason == (
        "needs 501 MB (201 MB more than its parent has left), 200 MB of 1.00 GB budget left,"
        " reserved by o (500 MB), p (300 MB, its own parent)"
    )
    assert admitted(m.ask("d", 500 * MB, parent="p")) == ["d"]
    assert sum_totals(m.state).reserved_bytes == GB


def test_nested_does_not_wait_for_its_own_ancestors() -> None:
    m = Machine(budget=GB, headroom=GB, available=GB)
    m.ask("p", 300 * MB)
    m.ask("c", 200 * MB, parent="p")
    (action,) = m.ask("g", 900 * MB, parent="c")
    assert isinstance(action, Admit)
    assert action.reason == "every running tree waits for a nested one, so one may start"
    assert not admitted(m.ask("h", 900 * MB, parent="c")), "now g can make room"


def test_two_trees_that_wait_for_nested_ones_do_not_wait_for_each_other() -> None:
    m = Machine(budget=GB)
    m.ask("p", 500 * MB)
    m.ask("q", 500 * MB)
    assert not admitted(m.ask("pc", 600 * MB, parent="p"))
    assert admitted(m.ask("qc", 600 * MB, parent="q")) == ["pc"], "the older one"
    assert m.waiting == ["qc"]


def test_the_excuse_is_for_nested_asks_only() -> None:
    m = Machine(budget=GB)
    m.ask("p", 500 * MB)
    m.ask("top", 900 * MB)
    assert admitted(m.ask("c", None, prior=1200 * MB, parent="p")) == ["c"]
    assert m.waiting == ["top"]


def test_the_excuse_is_from_memory_and_not_from_the_count() -> None:
    m = Machine(budget=GB, max_parallel=1)
    m.ask("p", GB)
    m.ask("c", MB, parent="p")
    m.ask("d", MB, parent="p")
    m(Use(id="p", used=GB))
    assert m.waiting == ["d"]
    assert admitted(m.ask("g", 500 * MB, parent="c")) == ["g"]
    assert m.waiting == ["d"]


def test_a_tree_whose_nested_ask_fails_fast_is_not_stuck() -> None:
    m = Machine(budget=GB)
    m.ask("p", 500 * MB)
    m.ask("q", 500 * MB)
    m.ask("pc", 600 * MB, parent="p")
    assert admitted(m.ask("qc", 600 * MB, parent="q", at=1.0, deadline=1.0)) == ["qc"], "p is: it waits for ever"
    assert m.waiting == ["pc"]


def test_nested_that_fits_a_reservation_is_admitted_however_short_memory_is() -> None:
    m = Machine(available=2 * GB)
    m.ask("p", GB)
    m.ask("o", GB)
    m(Observe(available=0, at=1.0))
    assert admitted(m.ask("c", GB, parent="p", ceiling=0, at=1.0)) == ["c"]


def test_three_deep_is_charged_to_all_around_it() -> None:
    m = Machine(budget=GB)
    m.ask("p", 500 * MB)
    m.ask("c", 300 * MB, parent="p")
    m.ask("g", 400 * MB, parent="c")
    assert sum_totals(m.state).reserved_bytes == 500 * MB, "100 MB more than c has, which p still had"
    m.ask("h", 200 * MB, parent="c")
    assert sum_totals(m.state).reserved_bytes == 600 * MB


def test_one_nested_at_a_time_uses_its_parents_place() -> None:
    m = Machine(max_parallel=2)
    m.ask("p", GB)
    m.ask("o", MB)
    assert admitted(m.ask("c", MB, parent="p")) == ["c"]
    assert admitted(m.ask("g", MB, parent="c")) == ["g"]
    assert sum_totals(m.state).places == 2
    (wait,) = m.ask("d", MB, parent="p")
    assert isinstance(wait, Wait)
    assert wait.reason.startswith("2 of 2 places taken")
    assert admitted(m(End(id="o", at=1.0))) == ["d"]


def test_what_is_nested_in_a_job_is_in_its_group() -> None:
    m = Machine()
    m.ask("job", 600 * MB, group="g", group_budget=GB)
    m.ask("job2", 400 * MB, group="g", group_budget=GB)
    m.ask("outside", GB)
    (wait,) = m.ask("c", 700 * MB, parent="job")
    assert isinstance(wait, Wait)
    assert "budget of its group" in wait.reason


def test_a_batch_inside_a_tree_is_bounded_as_a_group_of_its_own() -> None:
    m = Machine(budget=GB)
    m.ask("p", GB)
    batch: dict[str, Any] = {"parent": "p", "group": "g", "group_budget": 500 * MB}
    assert admitted(m.ask("a", 300 * MB, **batch)) == ["a"]
    assert not admitted(m.ask("b", 300 * MB, **batch))
    assert admitted(m.ask("c", 200 * MB, **batch)) == ["c"]


def test_a_nested_tree_whose_parent_ended_stands_for_itself() -> None:
    m = Machine(budget=GB)
    m.ask("p", 800 * MB)
    m.ask("c", 300 * MB, parent="p")
    m(End(id="p", at=1.0))
    assert sum_totals(m.state).reserved_bytes == 300 * MB


def test_restored_in_a_circle_ends_nowhere_but_counts() -> None:
    m = Machine()
    m(Restore(id="a", terms=Terms(name="a", parent="b"), reserved=MB, at=0.0))
    m(Restore(id="b", terms=Terms(name="b", parent="a"), reserved=MB, at=0.0))
    m(Restore(id="c", terms=Terms(name="c", parent="c"), reserved=MB, at=0.0))
    assert sum_totals(m.state).running == 3
    assert sum_totals(m.state).places == 2


# The queue


def test_oldest_first_and_younger_ones_that_fit_may_pass() -> None:
    m = Machine(budget=GB)
    m.ask("a", 800 * MB)
    m.ask("big", 900 * MB, at=1.0)
    assert admitted(m.ask("small", 200 * MB, at=2.0)) == ["small"]
    m.ask("later", 900 * MB, at=3.0)
    m(End(id="small", at=4.0))
    assert admitted(m(End(id="a", at=5.0))) == ["big"]


def test_nobody_passes_one_that_has_waited_too_long() -> None:
    m = Machine(budget=GB)
    m.ask("a", 800 * MB)
    m.ask("big", 900 * MB)
    (wait,) = m.ask("small", 100 * MB, at=30.0)
    assert isinstance(wait, Wait)
    assert wait.reason == "'big' has waited longer than 30 s and goes first"
    assert wait.ahead == 1
    assert admitted(m.ask("nested", 100 * MB, parent="a", at=31.0)) == ["nested"]
    assert admitted(m(End(id="a", at=32.0))) == ["big"]


def test_one_that_its_group_keeps_waiting_is_only_in_the_way_of_its_group() -> None:
    m = Machine()
    batch: dict[str, Any] = {"group": "g", "group_budget": GB}
    m.ask("a", 800 * MB, **batch)
    m.ask("big", 900 * MB, **batch)
    assert admitted(m.ask("other", 5 * GB, at=40.0)) == ["other"]
    (wait,) = m.ask("small", 100 * MB, at=41.0, **batch)
    assert isinstance(wait, Wait)
    assert wait.reason.startswith("'big' has waited longer")


def test_one_under_a_ceiling_is_only_in_the_way_of_those_that_have_one() -> None:
    m = Machine(headroom=100 * MB)
    m.ask("a", 100 * MB)
    m.ask("tight", 300 * MB, ceiling=200 * MB)
    assert admitted(m.ask("free", GB, at=40.0)) == ["free"]
    assert not admitted(m.ask("ceiled", MB, ceiling=90 * GB, at=40.0))


def test_withdrawing_the_one_in_the_way_lets_the_others_go() -> None:
    m = Machine(budget=GB)
    m.ask("a", 800 * MB)
    m.ask("big", 900 * MB)
    m.ask("small", 100 * MB, at=40.0)
    assert admitted(m(Withdraw(id="big"))) == ["small"]


def test_several_are_admitted_at_once_each_counted_before_the_next() -> None:
    m = Machine(budget=GB)
    m.ask("a", GB)
    for id in "bcde":
        m.ask(id, 400 * MB)
    assert admitted(m(End(id="a", at=1.0))) == ["b", "c"]


def test_use_that_falls_makes_room() -> None:
    m = Machine(budget=GB)
    m.ask("a", 100 * MB)
    m(Use(id="a", used=900 * MB))
    m.ask("b", 500 * MB)
    assert m(Use(id="a", used=901 * MB)) == ()
    assert admitted(m(Use(id="a", used=500 * MB))) == ["b"]


# Deadlines


def test_failing_fast_names_who_holds_what() -> None:
    m = Machine(budget=GB)
    m.ask("a", 500 * MB)
    m.ask("b", 380 * MB)
    (action,) = m.ask("x", 300 * MB, at=5.0, deadline=5.0, name="build")
    assert isinstance(action, Refuse)
    assert action.code == 75
    assert action.error == ("not enough memory for 'build': needs 300 MB, 120 MB of 1.00 GB budget left")
    assert action.hint == "'a' has reserved 500 MB (1 other runs too); wait with --wait 10m"
    assert action.reason == "needs 300 MB, 120 MB of 1.00 GB budget left, reserved by a (500 MB), b (380 MB)"
    assert m.waiting == []


def test_failing_fast_starts_what_fits() -> None:
    assert admitted(Machine(budget=GB).ask("a", MB, at=5.0, deadline=5.0)) == ["a"]


def test_a_deadline_refuses_and_what_stood_behind_goes() -> None:
    m = Machine(budget=GB)
    m.ask("a", 800 * MB)
    m.ask("big", 900 * MB, deadline=60.0)
    m.ask("small", 100 * MB, at=40.0)
    assert next_deadline(m.state) == 60.0
    assert m(Tick(at=59.0)) == ()
    actions = m(Tick(at=60.0))
    assert admitted(actions) == ["small"]
    (refusal,) = refused(actions)
    assert refusal.id == "big"
    assert refusal.error.startswith("not enough memory for 'big' after 1 min 0 s: needs 900 MB, ")
    assert next_deadline(m.state) is None


@pytest.mark.parametrize("event", [Observe(available=GB, at=9.0), End(id="unknown", at=9.0), Tick(at=9.0)])
def test_any_event_with_a_time_meets_deadlines(event: Event) -> None:
    m = Machine(budget=GB)
    m.ask("a", GB)
    m.ask("b", GB, deadline=8.0)
    assert [r.id for r in refused(m(event))] == ["b"]


def test_what_fits_at_its_deadline_is_admitted() -> None:
    m = Machine(budget=GB)
    m.ask("a", GB)
    m.ask("b", GB, deadline=8.0)
    assert admitted(m(End(id="a", at=8.0))) == ["b"]


# What people are told


def test_waiting_is_told_again_when_the_holders_change_and_not_when_bytes_do() -> None:
    m = Machine(available=GB)
    m.ask("a", 500 * MB)
    (first,) = m.ask("b", 900 * MB)
    assert isinstance(first, Wait)
    assert [h.id for h in first.holders] == ["a"]
    assert first.holders[0].bytes == 500 * MB
    m(Use(id="a", used=50 * MB))
    assert m(Observe(available=GB - 50 * MB, at=1.0)) == ()
    actions = m.ask("c", 100 * MB, at=2.0)
    (again,) = [a for a in actions if isinstance(a, Wait)]
    assert again.id == "b"
    assert {h.id for h in again.holders} == {"a", "c"}


def test_many_holders_are_named_by_the_largest() -> None:
    m = Machine(budget=GB)
    for n in range(7):
        m.ask(f"t{n}", (n + 1) * 10 * MB)
    (wait,) = m.ask("x", GB)
    assert isinstance(wait, Wait)
    assert wait.reason.endswith("reserved by t6 (70 MB), t5 (60 MB), t4 (50 MB), t3 (40 MB) and 3 more")
    assert len(wait.holders) == 7


def test_explain_and_totals() -> None:
    m = Machine(budget=GB, headroom=100 * MB, max_parallel=4)
    m.ask("a", 600 * MB, class_name="agent", limit=700 * MB)
    m(Use(id="a", used=50 * MB))
    m.ask("b", 500 * MB, at=3.0)
    a, b = explain(m.state)
    assert (a.id, a.state, a.reserved, a.used, a.terms.class_name, a.terms.limit) == (
        "a",
        "running",
        600 * MB,
        50 * MB,
        "agent",
        700 * MB,
    )
    assert a.reason == "reserved 600 MB, 400 MB of 1.00 GB budget left"
    assert (b.id, b.state, b.need, b.since) == ("b", "waiting", 500 * MB, 3.0)
    assert "400 MB of 1.00 GB budget left" in b.reason
    assert explain(m.state, "b") == (b,)
    assert explain(m.state, "nobody") == ()
    t = sum_totals(m.state)
    assert (t.running, t.waiting, t.places, t.reserved_bytes, t.growth_bytes) == (1, 1, 1, 600 * MB, 550 * MB)
    assert (t.budget, t.headroom, t.max_parallel) == (GB, 100 * MB, 4)


# Races and mistakes


@pytest.mark.parametrize("event", [Use(id="x", used=1), End(id="x", at=1.0), Withdraw(id="x")])
def test_unknown_ids_are_ignored(event: Event) -> None:
    m = Machine(budget=GB)
    m.ask("a", MB)
    assert m(event) == ()
    assert m.held == {"a"}


def test_withdrawing_a_held_one_does_nothing() -> None:
    m = Machine()
    m.ask("a", MB)
    m(Withdraw(id="a"))
    assert m.held == {"a"}


def test_an_id_is_used_once() -> None:
    m = Machine(budget=GB)
    m.ask("a", GB)
    m.ask("b", GB)
    for id in "ab":
        with pytest.raises(ValueError, match="known already"):
            m.ask(id, MB)
    with pytest.raises(ValueError, match="cannot be restored"):
        m(Restore(id="b", terms=Terms(name="b"), reserved=MB, at=1.0))


def test_restored_trees_are_held_without_question_and_once() -> None:
    m = Machine(budget=GB)
    for _ in range(2):
        assert m(Restore(id="a", terms=Terms(name="a"), reserved=5 * GB, used=MB, at=1.0)) == ()
    assert sum_totals(m.state).reserved_bytes == 5 * GB
    assert not admitted(m.ask("b", MB, at=1.0))


def test_a_state_is_not_changed_by_a_step_from_it() -> None:
    before = initial(Policy(budget=GB), GB)
    after, _ = step(before, Ask(id="a", terms=Terms(name="a", need=MB), at=0.0))
    step(after, Use(id="a", used=5))
    step(after, End(id="a", at=1.0))
    assert before.reservations == {}
    assert after.reservations["a"].used == 0


# What is held and takes no place (tool shells, servers)


def placeless(id: str, reserved: int = 0, **more: Any) -> Restore:
    return Restore(id=id, terms=Terms(name=id, **more), reserved=reserved, takes_place=False, at=0.0)


def test_what_takes_no_place_does_not_count_under_the_caps() -> None:
    m = Machine(max_parallel=2)
    for id in ("s1", "s2", "s3"):
        m(placeless(id))
    assert admitted(m.ask("a", MB)) == ["a"]
    assert admitted(m.ask("b", MB)) == ["b"]
    (wait,) = m.ask("c", MB)
    assert isinstance(wait, Wait)
    assert "2 of 2 places taken" in wait.reason
    assert {h.id for h in wait.holders} == {"a", "b"}
    assert sum_totals(m.state).places == 2
    m(placeless("s4"))
    assert admitted(m(End(id="a", at=1.0))) == ["c"]


def test_its_memory_counts_all_the_same() -> None:
    m = Machine(budget=10 * MB)
    m(placeless("s", 8 * MB))
    assert admitted(m.ask("a", 2 * MB)) == ["a"]
    (wait,) = m.ask("b", MB)
    assert isinstance(wait, Wait)
    assert {h.id for h in wait.holders} == {"a", "s"}
    assert sum_totals(m.state).reserved_bytes == 10 * MB


def test_a_tree_keeps_its_place_when_what_takes_none_is_nested_in_it() -> None:
    m = Machine(max_parallel=1)
    m.ask("a", MB)
    m(placeless("s", parent="a"))
    assert sum_totals(m.state).places == 1
    assert not admitted(m.ask("b", MB))
    assert admitted(m.ask("in-a", MB, parent="a")) == ["in-a"]
    assert sum_totals(m.state).places == 1


def test_an_ask_inside_a_tool_shell_takes_the_place_that_its_shell_has_not() -> None:
    m = Machine(max_parallel=2)
    m(placeless("shell"))
    assert admitted(m.ask("a", MB, parent="shell")) == ["a"]
    assert sum_totals(m.state).places == 1
    assert admitted(m.ask("b", MB, parent="shell")) == ["b"]
    assert sum_totals(m.state).places == 2
    assert not admitted(m.ask("c", MB, parent="shell"))
    assert not admitted(m.ask("d", MB))


def test_one_may_start_when_only_servers_are_held() -> None:
    """A server makes room for nobody by waiting for it."""
    m = Machine(available=10 * MB)
    m(placeless("server", 8 * MB))
    (admit,) = m.ask("a", 50 * MB)
    assert isinstance(admit, Admit)
    assert admit.reason == "only tool shells and servers are running, so one tree may start"
    assert not admitted(m.ask("b", MB))


def test_what_started_without_asking_says_so_and_a_refusal_whether_it_is_for_ever() -> None:
    m = Machine(budget=10 * MB, max_parallel=1)
    m(Restore(id="r", terms=Terms(name="r", class_name="subagent"), reserved=MB, reason="it did not ask", at=0.0))
    (held,) = explain(m.state)
    assert (held.terms.class_name, held.reason) == ("subagent", "it did not ask")
    (never,) = m.ask("a", 11 * MB)
    (later,) = m.ask("b", MB, deadline=0.0)
    assert isinstance(never, Refuse)
    assert isinstance(later, Refuse)
    assert (never.never, later.never) == (True, False)
