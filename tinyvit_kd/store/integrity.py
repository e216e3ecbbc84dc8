"""Checks that a block belongs where it lies, and that its records are possible answers of a teacher."""

from __future__ import annotations

import numpy as np

from tinyvit_kd.errors import BlockCorruptError, BlockForeignError, StoreError
from tinyvit_kd.store.codec import split_planes
from tinyvit_kd.store.encodings import ENCODINGS, Planes
from tinyvit_kd.store.records import Block, BlockHeader, RecordStatus

REDUMP = "remove this file and run dump-logits again: it makes only the missing blocks"
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


def records_problem(planes: Planes, header: BlockHeader) -> str:
    """What is wrong with the records of an encoded block, in words; empty if nothing is.

    Decoding, which a check does not need otherwise, takes several times as long.

    Args:
        planes: uint8 [rows, n].
        header: the block's.
    """
    parts = split_planes(planes, header)
    valid, hole = parts.status == RecordStatus.VALID, parts.status != RecordStatus.VALID
    steps = np.bitwise_or.reduce(parts.classes, axis=0) != 0  # [K, n]: whether a class differs from the one before it
    last = np.zeros(header.length, np.int64)
    for byte, plane in enumerate(parts.classes):
        last += plane.sum(axis=0, dtype=np.int64) << (8 * byte)
    ordered = steps[1:].all(axis=0) & (last < header.num_classes)
    possible = ENCODINGS[header.encoding].possible(parts.probs, parts.residual)
    nonzero = steps.any(axis=0) | (parts.residual != 0) | ENCODINGS[header.encoding].nonzero(parts.probs)
    problems = {
        "have an unknown status": parts.status > max(RecordStatus),
        f"have classes that do not ascend below {header.num_classes}": valid & ~ordered,
        "have probabilities that are not finite, below 0, or do not sum to 1": valid & ~possible,
        "are holes, but not empty": hole & nonzero,
    }
    for problem, rows in problems.items():
        if rows.any():
            return f"{rows.sum()} of {header.length} records {problem}, the first at index {rows.argmax()}"
    return ""
