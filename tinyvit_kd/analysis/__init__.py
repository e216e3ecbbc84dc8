"""What is read out of runs and stores from outside: how far they are, what they hold, how they compare.

Here: run folders as others see them (``run_folder``), how far runs and dumps are (``run_status``, ``store_status``) and
how they compare (``compared``); of a store what its records say (``store_statistics``, ``suspects``), samples with
their views (``stored_samples``) and pictures of these (``sheets``), records against their teacher (``verification``);
what a shard set holds (``shard_set``).
Not here: what a run does or writes itself (``runs``), the commands that print this (``stages``).
"""
