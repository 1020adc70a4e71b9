"""Trees: how they are bounded, ended and proven gone. Everything here but ``sweep`` and ``rungs.ladder`` runs in the
shim, with the standard library alone."""
