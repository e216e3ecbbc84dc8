"""Teachers and students: networks, heads, first weights, normalisation, and model files that say what they are.

Here also: official checkpoints under timm's names, and weights resized to another resolution.
Not here: losses and optimisers (``training``), where a run's first weights are decided (``runs.first_weights``).
"""
