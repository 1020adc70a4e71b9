"""Claude Code: its settings, prefix program, hooks and check."""
