"""The byte index of a shard, and its file.

Here: what of a shard is kept so that any of its samples can be read at once.
Not here: reading the samples (``data.shards``).
"""
