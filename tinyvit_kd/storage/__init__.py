"""Named files under one root: the only way in which stores and shard files touch a disk.

Here: the interface (``base``), the local file system (``local``), and the table that picks one (``open``).
Not here: names of files (``store.names``, ``data``), formats, retries of a stage, run folders (``runtime.files``).
"""
