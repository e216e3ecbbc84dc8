"""What a run will take, before it begins: counts, bytes, hours, and the checks that need no run.

Here: the arithmetic of recipes, rates that are given or measured, checks across stages.
Not here: the checks that a run makes itself (``runs``).
"""
