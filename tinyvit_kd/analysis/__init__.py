"""What is read out of runs and stores from outside: how far they are, what they hold, how they compare.

Here: a room each for runs and dumps (``jobs``), what a store's records say (``records``), samples with their views
(``samples``), records against their teacher (``verifying``), teachers on a few samples (``auditions``); and what a
shard set holds (``shard_set``).
Not here: what a run does or writes itself (``runs``), the commands that print this (``stages``).
"""
