"""``shards build``: from folders, tars and zips of images to shards.

Here: which files are images and which folders are classes, classes' numbers, and the tars that are written.
Not here: how tars are read (``data.tars``).
"""
