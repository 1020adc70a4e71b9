"""Trees from the request to the end: admission with a clock, leases, what is open, and who is ended for all."""
