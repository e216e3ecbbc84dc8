"""What a run will take, before it begins: counts, bytes, hours, and the checks that need no run.

Here: the arithmetic of recipes, stage by stage (``plan``), rates that are given or measured, checks across recipes, and
the table.
Not here: the checks that a run makes itself (``runs``), which are called from here.
"""
