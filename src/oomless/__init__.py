"""oomless runs AI coding agents without running out of memory.

Nothing is imported here: the shim and the fast commands start from this package and must stay small.
``Governor`` is loaded when it is first asked for (see ``governor.py``).
"""

import sys

__version__ = "0.1.0"
__all__ = ["Governor", "__version__"]

TYPE_CHECKING = False
if TYPE_CHECKING and sys.platform == "linux":
    from oomless.governor import Governor


def __getattr__(name: str) -> object:
    if name == "Governor" and sys.platform == "linux":
        from oomless.governor import Governor

        return Governor
    raise AttributeError(f"module 'oomless' has no attribute {name!r}")
