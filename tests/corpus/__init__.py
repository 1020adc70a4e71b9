"""Scenes whose processes are labelled by whoever started them, and how well the census judges them.

``scene.py``: the format of recorded scenes, and their replay; ``listing.py``: saved listings with labels beside them;
``score.py``: precision and recall; ``table.py``: the figures as text; ``__main__.py`` runs it all (``make corpus``).
What records: the other modules.
"""
