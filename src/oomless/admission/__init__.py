"""Whether a tree may start: pure policy, no I/O and no clock. ``machine.step(state, event) -> (state, actions)``.

``events`` is the vocabulary, ``ledger`` adds up what is reserved, ``policy`` has the inequalities, ``machine`` turns
events into actions, ``explain`` words the reasons, ``victims`` selects what is killed under memory pressure.
"""
