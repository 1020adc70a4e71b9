"""Kills whoever takes part at random moments, and looks for what is left (``make soak``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
