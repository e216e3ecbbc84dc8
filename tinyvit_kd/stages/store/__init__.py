"""The commands of ``store``: one file each.

Here: info, check.
Not here: what several of them share (``analysis``), the store itself (``store``).
"""
