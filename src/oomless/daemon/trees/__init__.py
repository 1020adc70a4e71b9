"""Trees from the request to the end: admission with a clock, leases, open trees, victims, what dead trees leave."""
