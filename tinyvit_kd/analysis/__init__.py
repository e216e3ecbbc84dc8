"""What is read out of runs and stores from outside: how far they are, what they hold, how they compare.

Here: run folders as others see them (``run_folder``), what a store's records say (``store_statistics``,
``suspects``).
Not here: what a run does or writes itself (``runs``), the commands that print this (``stages``).
"""
