"""What the records of a store say of its teacher and its data.

Here: statistics (``store_statistics``), suspects, the labels that both are compared with.
Not here: samples with their images (``analysis.samples``), how far a dump is (``analysis.jobs``).
"""
