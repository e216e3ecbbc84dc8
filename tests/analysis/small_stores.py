"""Small stores of random records, for figures of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.store.blocks import manifest_of, random_block
from tinyvit_kd.store.store import LogitStore

LENGTHS = (30, 0, 17, 30)
MIXED = {"size": 16, "mixup": 0.8, "cutmix": 1.0, "mix_prob": 0.9}


def random_store(path: Path, views: int = 4, missing: tuple[tuple[int, int], ...] = (), **changes: Any) -> LogitStore:
    """A store of four shards, one of them empty, with the top 5 of 12 classes; some blocks may be missing."""
    given: dict[str, Any] = {
        "num_classes": 12,
        "views": views,
        "view_spec": {"size": 16},
        "class_list": None,
        "class_list_hash": None,
    }
    manifest = manifest_of(LENGTHS, **given | changes)
    store = LogitStore.create(path, manifest)
    for shard, length in enumerate(LENGTHS):
        holes = random_block(max(length, 1), 1, 2, seed=shard).status  # the same in all views
        for view in range(views):
            if length and (shard, view) not in missing:
                block = random_block(length, manifest.topk, manifest.num_classes, 100 * shard + view, holes=0)
                block.status[:] = holes
                for field in (block.indices, block.probs, block.residual, block.digests):
                    field[holes > 0] = 0
                store.write_block(shard, view, block)
    return store


def random_labels(store: LogitStore, seed: int = 0) -> dict[int, npt.NDArray[np.int64]]:
    """A label of each sample, some of which are not known."""
    rng = np.random.default_rng(seed)
    lengths = store.manifest.shard_lengths
    return {
        shard: rng.integers(-1, store.manifest.num_classes, length) for shard, length in enumerate(lengths) if length
    }
