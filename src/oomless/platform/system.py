"""The processes and control groups of this machine by neutral names, for rooms that run on every system.

On Linux these are the functions of ``proc``, ``cgroup``, ``pss`` and ``sockets`` themselves, which the shim imports
directly; on macOS those of ``darwin_system``. Facts that need a type of ``model`` come from ``current()`` instead.
"""

from __future__ import annotations

import sys

__all__ = [
    "DENIED",
    "GONE",
    "SENT",
    "ForkEvents",
    "Stat",
    "TableReader",
    "boot_id",
    "cgroups",
    "cmdline",
    "environ",
    "find_listeners",
    "folders_around",
    "has_executed",
    "ignores_hangup",
    "kill",
    "last_pid",
    "leave_governed_trees",
    "open_verified",
    "own_descriptors",
    "owner_uid",
    "peer_of",
    "pids_in",
    "raw_cmdline",
    "read_stat",
    "real_uid",
    "remove_group",
    "send",
    "set_oom_score_adj",
    "start_of",
    "start_of_age",
    "sum_footprints",
    "table",
]

if sys.platform == "darwin":
    from oomless.platform.darwin_system import (
        DENIED,
        GONE,
        SENT,
        boot_id,
        cgroups,
        cmdline,
        environ,
        find_listeners,
        folders_around,
        has_executed,
        ignores_hangup,
        kill,
        last_pid,
        leave_governed_trees,
        open_verified,
        own_descriptors,
        owner_uid,
        peer_of,
        pids_in,
        raw_cmdline,
        read_stat,
        real_uid,
        remove_group,
        send,
        set_oom_score_adj,
        start_of,
        start_of_age,
        sum_footprints,
        table,
    )
    from oomless.platform.darwin_system import DarwinStat as Stat
    from oomless.platform.darwin_system import DarwinTableReader as TableReader
    from oomless.platform.darwin_system import NoForkEvents as ForkEvents
else:
    from oomless.platform.cgroup import folders_around, leave_governed_trees, pids_in
    from oomless.platform.cgroup import remove as remove_group
    from oomless.platform.fork_events import ProcEvents as ForkEvents
    from oomless.platform.proc import (
        DENIED,
        GONE,
        SENT,
        Stat,
        boot_id,
        cgroups,
        cmdline,
        environ,
        has_executed,
        ignores_hangup,
        kill,
        last_pid,
        open_verified,
        own_descriptors,
        owner_uid,
        raw_cmdline,
        read_stat,
        real_uid,
        send,
        set_oom_score_adj,
        start_of,
        start_of_age,
        table,
    )
    from oomless.platform.pss import sum_pss as sum_footprints
    from oomless.platform.sockets import listeners as find_listeners
    from oomless.platform.sockets import peer_of
    from oomless.platform.table_reader import TableReader
