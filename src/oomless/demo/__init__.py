"""The incident replayed on this machine with small agents of our own, measured, and told in figures."""
