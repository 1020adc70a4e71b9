"""A scripted model on loopback that speaks the Messages API as Claude Code uses it, for the demo and the tests.

``script.py``: what is answered to whom; ``conversation.py``: who asks and what came before, read from the request;
``choose.py``: the one turn that follows (pure); ``events.py``: that turn as the API words it; ``server.py``: the
requests, holds and the log; ``log.py``: the log read again; ``process.py``: all of it as a process of its own.
"""

from __future__ import annotations
