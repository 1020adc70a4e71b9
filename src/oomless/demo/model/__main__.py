"""``python -m oomless.demo.model``: the scripted model as a process. All of it is in ``process.py``."""

from __future__ import annotations

import sys

from oomless.demo.model.process import main

if __name__ == "__main__":
    sys.exit(main())
