"""The applications that run agents: where their settings are, and what oomless writes there."""
