"""Small blocks, manifests and stores for tests."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.manifest import Manifest, TeacherEntry
from tinyvit_kd.store.records import Block, BlockHeader, RecordStatus


def random_block(
    length: int, topk: int, num_classes: int, seed: int = 0, sharpness: float = 3.0, holes: float = 0.2
) -> Block:
    """Records of a teacher that is the surer the larger ``sharpness`` is; a share of ``holes`` is holes."""
    rng = np.random.default_rng(seed)
    classes = [rng.choice(num_classes, topk, replace=False, shuffle=False) for _ in range(length)]
    logits = rng.normal(0, sharpness, (length, topk + 1))
    if topk == num_classes:
        logits[:, -1] = -np.inf
    masses = np.exp(logits - logits.max(axis=1, keepdims=True))
    masses /= masses.sum(axis=1, keepdims=True)
    status = np.where(rng.random(length) < holes, RecordStatus.TRUNCATED, RecordStatus.VALID).astype(np.uint8)
    there = status == RecordStatus.VALID
    return Block(
        indices=(np.sort(classes, axis=1) * there[:, None]).astype(np.int32),
        probs=(masses[:, :-1] * there[:, None]).astype(np.float32),
        residual=(masses[:, -1] * there).astype(np.float32),
        seeds=rng.integers(0, 2**32, length, dtype=np.uint32),
        digests=rng.integers(0, 2**32, length, dtype=np.uint32),
        status=status,
    )


def header_of(block: Block, num_classes: int, encoding: Encoding = "compact") -> BlockHeader:
    """A header that fits the block."""
    length, topk = block.probs.shape
    return BlockHeader(encoding, 3, 1, length, topk, num_classes, key_hash=2**64 - 1, manifest_hash=2**63)


def manifest_of(lengths: tuple[int, ...] = (30, 30, 17), **changes: Any) -> Manifest:
    """A manifest of a store of top 5 of 1,000 classes in 4 views, but for ``changes``."""
    values: dict[str, Any] = {
        "shard_set": "toy",
        "shard_names": tuple(f"train-{shard:06d}.tar" for shard in range(len(lengths))),
        "shard_lengths": lengths,
        "key_hashes": tuple(2**63 + shard for shard in range(len(lengths))),
        "view_spec": {"size": 224, "crop_scale": [0.08, 1.0]},
        "view_spec_hash": "0123456789abcdef",
        "teacher": TeacherEntry(
            name="toy_teacher",
            weights_hash="ab" * 16,
            image_size=224,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
            precision="float32",
        ),
        "num_classes": 1000,
        "class_list": "imagenet",
        "class_list_hash": "fedcba9876543210",
        "topk": 5,
        "views": 4,
        "encoding": "exact",
        "seed": 7,
        "versions": {"numpy": "2"},
    }
    return Manifest(**(values | changes))


def block_for(manifest: Manifest, shard: int, view: int) -> Block:
    """The one block that belongs at this place of a toy store."""
    seed = 1000 * shard + view
    return random_block(manifest.shard_lengths[shard], manifest.topk, manifest.num_classes, seed)


def same(a: Block, b: Block, rows: npt.NDArray[np.integer[Any]] | None = None) -> bool:
    """Whether ``a`` is bit for bit ``b``, or those rows of it."""
    chosen = slice(None) if rows is None else rows
    pairs = [(getattr(a, field.name), getattr(b, field.name)[chosen]) for field in fields(Block)]
    return all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)
