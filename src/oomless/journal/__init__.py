"""What survives a crash: intents, trees, decisions and sweeps, in SQLite. One writer, the daemon.

``facts`` are the rows, ``schema`` the tables and their migrations, ``opening`` the care taken with a file that
may be anything, ``store`` the journal itself.
"""

from oomless.journal.database import Journal
from oomless.journal.facts import Decision, OpenTree, SweepRow, TreeIntent, TreeRow

__all__ = ["Decision", "Journal", "OpenTree", "SweepRow", "TreeIntent", "TreeRow"]
