"""How much a tree uses and may use: what is read, how often, and what is exceeded."""
