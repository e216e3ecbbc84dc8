"""Runs and dumps as others see them: found in folders, read, told how far they are, compared.

Here: run folders (``run_folder``), status of runs and dumps, signs of life, what a job left behind, comparisons.
Not here: what a job writes of itself (``runs``), what the records of a store say (``analysis.records``).
"""
