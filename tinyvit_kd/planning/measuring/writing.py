"""How many records one process encodes and writes."""

from __future__ import annotations

import tempfile
from itertools import cycle

import numpy as np
import torch

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.models.teacher import TeacherFacts, topk_probs
from tinyvit_kd.planning.measuring.stopwatch import Rate, rate_of
from tinyvit_kd.store.manifest import Manifest, TeacherEntry
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.spec_hash import view_spec_hash

_RECORDS = 2048  # of a block, at most
_CHUNK = 256  # answers that are drawn at a time
_VIEWS = 4  # blocks that are written in turn


def writing_rate(config: DumpConfig, teacher: TeacherFacts, length: int) -> Rate:
    """Records per second of a block's encoding and writing, to a temporary folder.

    Args:
        length: records of a block.
    """
    length = min(length, _RECORDS)
    block = _block(length, config.store.topk, teacher.num_classes)
    with tempfile.TemporaryDirectory(prefix="tinyvit-kd-") as folder:
        store = LogitStore.create(folder, _manifest(config, teacher, length), fsync=config.runtime.fsync)
        views = cycle(range(_VIEWS))

        def work() -> None:
            store.write_block(0, next(views), block)

        work()
        return rate_of(work, length)


def _block(length: int, topk: int, num_classes: int) -> Block:
    """Records of a teacher with a spread, drawn at random."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        topk_probs(3 * torch.randn(min(_CHUNK, length - start), num_classes, generator=generator), topk)
        for start in range(0, length, _CHUNK)
    ]
    indices, probs, residual = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    numbers = np.random.default_rng(0).integers(1 << 32, size=(2, length), dtype=np.uint32)
    return Block(indices.astype(np.int32), probs, residual, numbers[0], numbers[1], np.zeros(length, np.uint8))


def _manifest(config: DumpConfig, teacher: TeacherFacts, length: int) -> Manifest:
    return Manifest(
        shard_set="measuring",
        shard_names=("measuring.tar",),
        shard_lengths=(length,),
        key_hashes=(0,),
        view_spec=config.views.model_dump(mode="json"),
        view_spec_hash=view_spec_hash(config.views),
        teacher=TeacherEntry(
            name=teacher.name,
            weights_hash="",
            image_size=teacher.image_size,
            mean=teacher.mean,
            std=teacher.std,
            precision="float32",
        ),
        num_classes=teacher.num_classes,
        class_list=None,
        class_list_hash=None,
        topk=config.store.topk,
        views=_VIEWS,
        encoding=config.store.encoding,
        seed=0,
        versions={},
    )
