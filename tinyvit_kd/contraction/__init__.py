"""Progressive contraction (arXiv 2207.10666, section 3.2): students made to measure from a larger one.

Here: shapes and moves between them, what they cost, how they are timed, briefly trained and scored, and the rounds.
Not here: training itself (``training``), a store's batches (``batches``), pages (``reports``).
"""
