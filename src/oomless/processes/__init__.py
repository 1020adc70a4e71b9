"""Processes as facts: identities, the table, ancestry, forks, our own processes, and the kill protocol."""
