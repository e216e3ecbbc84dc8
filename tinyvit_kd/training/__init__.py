"""Losses, optimiser, checkpoints and the one loop."""
