"""The commands of ``store``: one file each.

Here: info, check, stats, suspects, show, verify.
Not here: what several of them share (``analysis``), the store itself (``store``).
"""
