"""The sparse store of teacher probabilities: records, codec, manifest, blocks on zarr, cache, copies, check.

Here also: the status of a record, which says why a sample has no views.
Not here: a new store from a recipe (``runs.new_store``), reading in training order (``batches.stored_batches``).
"""
