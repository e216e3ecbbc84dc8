"""Checks that a block belongs where it lies, and that its records are possible answers of a teacher."""

from __future__ import annotations

import numpy as np

from tinyvit_kd.errors import BlockCorruptError, BlockForeignError, StoreError
from tinyvit_kd.store.records import Block, BlockHeader, RecordStatus

REDUMP = "remove this file and run dump-logits again: it makes only the missing blocks"
TOLERANCE = 1e-2  # deviation of a record's total probability from 1; far above the rounding of any teacher precision
_FOREIGN = {  # message by the header fields that differ
    ("key_hash", "manifest_hash"): "a block was made from other samples",
    ("manifest_hash",): "a block belongs to another store, of another teacher or recipe",
}


def check_header(found: BlockHeader | None, expected: BlockHeader, location: str) -> None:
    """Compare a block's header with the header that belongs in its place.

    Raises:
        BlockCorruptError: the block has no header.
        BlockForeignError: the headers differ; it names the fields.
    """
    if found == expected:
        return
    if found is None:
        raise BlockCorruptError("a block does not begin with a header", where=location, fix=REDUMP)
    names = [name for name in vars(expected) if getattr(found, name) != getattr(expected, name)]
    raise BlockForeignError(
        _FOREIGN.get(tuple(names), "a block is not the one it should be"),
        differing=tuple(names),
        where=location,
        found=", ".join(f"{name} {getattr(found, name)}" for name in names),
        expected=", ".join(f"{name} {getattr(expected, name)}" for name in names),
        fix=REDUMP,
    )


def require_finite(block: Block, location: str) -> None:
    """Refuse to write NaN or infinity, which a teacher gives if its precision is too narrow.

    Raises:
        StoreError: a probability is NaN or infinite.
    """
    bad = ~np.isfinite(block.probs).all(axis=1) | ~np.isfinite(block.residual)
    if bad.any():
        raise StoreError(
            "the teacher gave probabilities that are not finite",
            where=location,
            found=f"{bad.sum()} of {len(block)} records, the first at index {bad.argmax()}",
            fix="check the teacher's weights, or run it in a wider precision (runtime.precision: bfloat16); the block "
            "was not written",
        )


def block_problem(block: Block, num_classes: int) -> str:
    """What is wrong with the records of a block, in words; empty if nothing is."""
    valid = block.valid
    hole = ~valid
    with np.errstate(invalid="ignore"):  # the comparisons below find NaN and infinity
        mass = block.probs.sum(axis=1) + block.residual
    ascending = (block.indices[:, 1:] > block.indices[:, :-1]).all(axis=1)
    in_range = (block.indices[:, 0] >= 0) & (block.indices[:, -1] < num_classes)
    in_bounds = (block.probs.min(axis=1) >= 0) & (block.residual >= 0) & (abs(mass - 1) <= TOLERANCE)
    nonzero = block.indices.any(axis=1) | block.probs.any(axis=1) | (block.residual != 0)
    problems = {
        "have an unknown status": block.status > max(RecordStatus),
        f"have classes that do not ascend below {num_classes}": valid & ~(ascending & in_range),
        "have probabilities that are not finite, below 0, or do not sum to 1": valid & ~in_bounds,
        "are holes, but not empty": hole & nonzero,
    }
    for problem, rows in problems.items():
        if rows.any():
            return f"{rows.sum()} of {len(block)} records {problem}, the first at index {rows.argmax()}"
    return ""
