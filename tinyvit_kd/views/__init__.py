"""From an image's bytes and a seed to a view: parameters, the reference renderer, its native twin, mixing.

Here also: decoding, replay of any other transform by seeding, and the check that this machine renders the same bytes as
others.
Not here: the policy as a recipe gives it (``config.view_spec``), which view of which sample is wanted (``batches``).
"""
