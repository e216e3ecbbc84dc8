"""What loading processes execute: which samples and views a step takes, and how they become a batch.

Here: the plan of steps, the view schedule, a sample's views, and labelled, stored, dump and evaluation batches. What a
hole is in a batch: ``holes``. Where digests are compared: ``digest_check``.
Not here: the loader and its memory (``data``), rendering (``views``), and the batch as a step takes it (``training``).
"""
