"""Samples of a store as they were seen: images, replayed views, what the teacher said of them.

Here: which samples (``sample_choice``), their content (``stored_samples``), and pictures of it (``sheets``).
Not here: replay for training (``batches``), figures over all records (``analysis.records``).
"""
