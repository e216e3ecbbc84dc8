"""What ``import tinyvit_kd`` offers to analyses and notebooks: opening things and looking into them (docs/API.md).

Here: samples of shards, records of a store, images of views, recipes, students, training batches.
Not here: anything that trains or writes results (``stages``).
"""
