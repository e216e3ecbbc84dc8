"""What loading processes execute: which samples and views a step takes, and how they become a batch.

Here: the step plan, the view schedule, views and their replay, what a hole is in a batch (``holes``), where digests are
compared (``digest_check``), and labelled, stored, dump and evaluation batches.
Not here: the loader and its memory (``data``), rendering (``views``), and the batch as a step takes it (``training``).
"""
