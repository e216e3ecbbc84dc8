"""The kinds of sources that ``shards build`` takes besides class folders and archives of them.

Here: tables with paths or images, folders of Hugging Face's ``datasets``, ImageNet's validation images, Tiny-ImageNet
and images without labels: which images they have, and what says their labels.
Not here: class folders, tars and zips, classes' numbers, and the tars that are written (``data.building``).
"""
