"""Named files under one root: stores and shards reach their disk only through this interface.

Here: the interface (``base``), the local file system (``local``), object stores (``objects``),
and the table of storages by URL scheme (``open``).
Not here: names of files (``store.names``, ``data``), formats, retries of a stage, run folders (``runtime.files``).
"""
