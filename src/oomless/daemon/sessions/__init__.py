"""Hosts' sessions while they live: their processes, hooks and subagents."""
