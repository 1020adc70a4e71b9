"""``python command.py EVENT``: a hook of the made-up host. ``python command.py daemon|oomless ...``: the daemon or
the command line of an oomless that knows this host."""

from __future__ import annotations

import sys
from pathlib import Path


def main(argv: list[str]) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import made_up_host

    made_up_host.add()
    if argv == ["daemon"]:
        from oomless.daemon.main import main as daemon

        sys.exit(daemon([]))
    if argv[:1] == ["oomless"]:
        from oomless.cli import main as oomless

        sys.argv = argv
        oomless()
        return
    from oomless.cli.hook import boot

    boot(["made-up", *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
