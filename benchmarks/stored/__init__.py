"""Pieces of ``benchmarks/store.py``."""
