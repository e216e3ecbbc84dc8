"""The sparse store of teacher probabilities: records, codec, manifest, blocks on zarr, cache, statistics, check.

Here also: the status of a record, which says why a sample has no view.
Not here: what a new store is made from (``runs.new_store``), and who reads it in which order (``batches.stored``).
"""
