"""The real programs of the incident on any machine: Node, the Claude Code CLI and five MCP servers, built once into a
cache folder and used from there.

``catalog.py``: which, in which versions; ``cache.py``: the folder, its lock, what is ready in it; ``commands.py``:
the command that builds one; ``why.py``: what its output means, in one line; ``build.py``: building what is missing;
``servers.py``: how each server is started.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.demo.parts.build import Built, Parts
from oomless.demo.parts.cache import cache_folder
from oomless.demo.parts.servers import ServerPart

__all__ = ["Built", "Parts", "ServerPart", "cache_folder"]
