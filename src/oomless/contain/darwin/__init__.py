"""The shim and its tree on macOS, against recorded interfaces; not run on a Mac."""
