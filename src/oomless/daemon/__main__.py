"""``python -I -m oomless.daemon``: see ``main.py``."""

from __future__ import annotations

import sys

assert sys.platform == "linux"

from oomless.daemon.main import main

sys.exit(main(sys.argv[1:]))
