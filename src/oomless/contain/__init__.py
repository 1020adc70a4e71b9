"""Trees: how they are limited, ended and proven gone. Everything here but ``sweep`` and ``rungs.choose`` runs in the
shim, with the standard library alone."""
