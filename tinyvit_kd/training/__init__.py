"""One training loop and what it uses: batches, losses, objectives, optimiser, state, checkpoints, meters, metrics.

Here also: running statistics over micro-batches and processes, and the vote to stop.
Not here: what frames a run (``runs``), how batches are made (``batches``), networks (``models``).
"""
