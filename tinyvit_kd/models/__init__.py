"""Teachers and students: networks, heads, first weights, normalisation, and model files that say what they are.

Here also: official checkpoints under timm's names, weights resized to another resolution, networks of other libraries
and of a user's own code.
Not here: losses and optimisers (``training``), where a run's first weights are decided (``runs.first_weights``).
"""
