"""What may be typed behind ``tinyvit-kd``: arguments, options, and what of a result is printed; one file per topic.

Here also: the sections in which ``--help`` lists the commands.
Not here: what a command does (``stages``), errors and their exit codes (``cli``).
"""
