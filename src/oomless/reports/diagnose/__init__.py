"""What happened and why: a report from a saved text or from the live machine and its journal.

``facts`` is the case; ``document``, ``amounts``, ``prose`` and ``reckoning`` read what people write; ``text`` and
``live`` make a case of a text or of this machine; ``claims`` and ``contradictions`` judge what it says; ``report``
puts all together; ``markdown`` and ``html`` show it. All but ``live`` is pure.
"""
