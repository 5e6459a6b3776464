"""How fast is helixml, and beside what? One file a question; ``dev.py bench`` asks them all.

A question either lists `turns.Case`s, each a computation that helixml (``ours/``) and a peer
(``peers/``) do by turns in two processes, or has a ``run`` that measures helixml alone.
"""
