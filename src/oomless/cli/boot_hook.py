"""Starts ``hook.py``: ``python -I -S -E boot_hook.py claude-code session-start``. As small as ``contain/boot.py``,
and for the same reason: it is compiled anew each time."""

import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

assert sys.platform == "linux"

from oomless.cli.hook import boot

boot(sys.argv[1:])
