"""Whether a tree may start: pure policy, no I/O and no clock. ``step(state, event) -> (state, actions)``.

``events`` is the vocabulary, ``ledger`` adds up what is promised, ``policy`` holds the inequalities, ``machine``
turns events into actions, ``explain`` puts it into words. Who asks is settled, and actions are carried out, in
``daemon/core``.
"""

from oomless.admission.events import (
    Action,
    Admit,
    Ask,
    Configure,
    End,
    Event,
    Holder,
    Observe,
    Policy,
    Refuse,
    Restore,
    Tick,
    Use,
    Wait,
    Withdraw,
)
from oomless.admission.explain import Explanation, Totals, explain, totals
from oomless.admission.machine import initial, next_deadline, step
from oomless.admission.state import State

__all__ = [
    "Action",
    "Admit",
    "Ask",
    "Configure",
    "End",
    "Event",
    "Explanation",
    "Holder",
    "Observe",
    "Policy",
    "Refuse",
    "Restore",
    "State",
    "Tick",
    "Totals",
    "Use",
    "Wait",
    "Withdraw",
    "explain",
    "initial",
    "next_deadline",
    "step",
    "totals",
]
