"""What surrounds the steps of a training run or a dump: opening, comparing, resuming, scoring and writing.

Here: student runs and their data, first weights, resume, identity, class lists and names, scoring, a new store, a
second teacher, waiting for a dump that is followed, parts of stores to copy, predictions, results and progress; runs
at URLs, and what dumps keep beside stores there.
Not here: what one command does (``stages``), the steps themselves (``training``), what loads batches (``batches``).
"""
