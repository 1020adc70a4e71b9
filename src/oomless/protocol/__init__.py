"""What clients and the daemon say to each other. Clients import this room and never ``daemon/``."""
