"""Records of a store computed anew by its teacher, and how far the two may be apart.

Here: the comparison (``verification``), its bounds (``agreement``, ``rounding``).
Not here: damage of blocks, which a check finds (``store.check``).
"""
