"""What a sample's label is, and the class lists that say what it means.

Here: every spelling of a label and of a class list that is read, and how sorted labels are along the shards.
Not here: which class of a head a label is (``batches.labels``), and what a run does without them (``runs``).
"""
