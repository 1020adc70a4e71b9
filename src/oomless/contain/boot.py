"""Starts the shim: ``python -I -S -E boot.py SPEC_FD TREE -- COMMAND...`` (so that ``ps`` shows whose it is).

Isolated mode leaves the package off the path, so it is put there. This file is compiled anew at each start, for
only imported modules are cached: it must stay this small.
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

assert sys.platform == "linux"

from oomless.contain.shim import main

main(sys.argv)
