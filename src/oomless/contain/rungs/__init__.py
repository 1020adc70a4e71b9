"""What holds a tree: which rungs this machine offers (``choose``), and what each does (``base.Rung``)."""
