"""Where shards are: folders, patterns and URLs.

Here: which tars a path means, how URLs are fetched, and what to say of a path that leads to something else.
Not here: reading a shard's bytes (``data.shard_files``).
"""
