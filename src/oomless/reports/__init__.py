"""What people are shown, as data: cli, web and tui print the same reports."""
