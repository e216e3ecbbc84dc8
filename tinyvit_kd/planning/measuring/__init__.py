"""Rates of this machine: a few real batches of each part of a run, timed.

Here: views, networks and writing, each with nothing beside it, and the stopwatch.
Not here: what rates mean for a run (``planning.hours``).
"""
