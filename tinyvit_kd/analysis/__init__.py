"""What is read out of runs and stores from outside: how far they are, what they hold, how they compare.

Here: run folders as others see them (``run_folder``), samples of a store with their views (``stored_samples``), and
pictures of these (``sheets``).
Not here: what a run does or writes itself (``runs``), the commands that print this (``stages``).
"""
