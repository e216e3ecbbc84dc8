"""Named files under one root: stores and shards reach their disk only through this interface.

Here: the interface (``base``), the local file system (``local``), object stores (``objects``, whose clients are made in
``clients``), web servers (``web``), the table of storages by URL scheme (``open``), how requests are made again
(``requests``) and told apart (``refusals``).
Not here: names of files (``store.names``, ``data``), formats, retries of a stage, run folders (``runtime.files``).
"""
