"""``python -m oomless`` is the ``oomless`` command."""

from __future__ import annotations

from oomless.cli import main

if __name__ == "__main__":
    main()
