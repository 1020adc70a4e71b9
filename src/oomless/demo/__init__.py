"""The incident replayed on this machine, without oomless and with it, and measured."""
