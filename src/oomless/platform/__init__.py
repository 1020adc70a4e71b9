"""The operating system behind one Protocol (``base.Platform``); this module only picks this machine's file.

Nothing is loaded before ``current()`` is called: the shim imports ``platform.proc`` through this package.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomless.platform.base import Platform


def current() -> Platform:
    """The platform that this program runs on; raises UnsupportedPlatform."""
    if sys.platform == "linux":
        from oomless.platform.linux import Linux

        return Linux()
    if sys.platform == "darwin":
        from oomless.platform.darwin import Darwin

        return Darwin()
    from oomless.errors import UnsupportedPlatform

    raise UnsupportedPlatform(
        f"oomless does not run on {sys.platform}",
        "it knows how to read processes of Linux and macOS only",
        "run it on one of them",
    )
