"""Copies of shards on a disk of this machine: bounded, shared by its processes, fetched ahead of their use.

Here: the cache and what it holds (``shard_cache``, ``room``), where a copy comes from (``source``), the threads that
fetch the next shards (``ahead``), and what is counted (``counts``).
Not here: which shards are next (``batches.shard_uses``), reading samples out of a copy (``data.shard_files``), what a
URL means (``data.locating``).
"""
