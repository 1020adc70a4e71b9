"""From a rung's name, as the daemon granted it, to the rung. A rung that few trees have is loaded for those only.

Standard library only.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.contain.rungs.base import PID_NAMESPACE, SYSTEMD_SCOPE
from oomless.contain.rungs.cgroups import Cgroups
from oomless.contain.rungs.subreaper import Subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oomless.contain.rungs.base import Rung
    from oomless.processes.ids import ProcessId


def build_rung(
    name: str,
    paths: dict[str, str],
    limit: int | None,
    processes: int | None,
    skip: Collection[ProcessId] = (),
    enough: int | None = None,
) -> Rung:
    """``limit`` in bytes, ``processes`` as a count; ``skip`` and ``enough`` as in ``Subreaper``."""
    if name == SYSTEMD_SCOPE:
        from oomless.contain.rungs.systemd_scope import SystemdScope

        return SystemdScope(name, paths, limit, processes)
    if name == PID_NAMESPACE:
        from oomless.contain.rungs.pid_namespace import PidNamespace

        return PidNamespace(skip, enough)
    return Cgroups(name, paths, limit, processes) if paths else Subreaper(skip, enough)
