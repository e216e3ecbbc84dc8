"""The commands of ``shards``: one file each.

Here: build, index, info, check.
Not here: what several of them say of a shard set (``analysis.shard_set``), tars, indexes and labels (``data``).
"""
