"""How a tar is read: its members, links and joined archives, and which members are a sample.

Here: what a name means, how files of one sample are put together, and what is counted as left out or lost.
Not here: what a label says (``data.labels``), and what is kept of a tar (``data.indexing``).
"""
