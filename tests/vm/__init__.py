"""Debian in a virtual machine, and the containment contract in it (``make test-vm``)."""
