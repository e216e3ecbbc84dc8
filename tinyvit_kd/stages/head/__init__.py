"""The commands of ``head``: one file each.

Here: prototypes, text.
Not here: what a head is and how it answers (``models.head_file``, ``models.embedding_head``).
"""
