"""Errors that have more to say than the parts of every error; free of torch, for processes that start anew."""

from __future__ import annotations

from tinyvit_kd.errors import BlockForeignError, FieldDifference, ManifestMismatchError

PARTS = {"where": "a place", "found": "a thing", "expected": "another", "fix": "mend it."}
DIFFERENCES = (FieldDifference("seed", 7, 8), FieldDifference("shard_lengths", (30, 40), (30, 41)))
MISMATCH = ManifestMismatchError("they differ", differences=DIFFERENCES, **PARTS)
FOREIGN = BlockForeignError("another block", differing=("key_hash", "manifest_hash"), **PARTS)


def raise_mismatch(_: int) -> None:
    """A task that fails."""
    raise MISMATCH
