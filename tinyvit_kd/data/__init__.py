"""Shards, labels, the epoch's order and the loader."""
