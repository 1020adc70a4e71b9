"""A host's tool shell: the foreground, which the host waits for, and the background shim, which outlives it."""
