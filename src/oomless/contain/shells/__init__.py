"""A host's tool shell: its front, which the host waits for, and its keeper, which stays with the background."""
