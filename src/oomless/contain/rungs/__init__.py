"""What holds a tree: which rungs this machine offers (``ladder``), and what each does (from ``members`` on)."""
