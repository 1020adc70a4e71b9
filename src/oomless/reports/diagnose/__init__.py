"""What happened and why: a report from a saved text or from the live machine and its journal.

``facts`` is the case, ``document``, ``amounts`` and ``prose`` read what people write, ``text`` and ``live`` make a
case of a text or of this machine, ``claims`` and ``contradictions`` judge what is said in it, ``report`` puts all
together, ``markdown`` and ``html`` show it. Everything but opening the journal in ``live`` is pure. Reading tables of
``ps`` is ``listing/``'s business, whose a live process is the census'.
"""
