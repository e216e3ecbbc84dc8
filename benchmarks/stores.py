"""Stores without a teacher: true seeds and digests of real views, made-up probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.local_files import store_folder
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches, block_caches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.store.manifest import Manifest, TeacherEntry
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import render_views, view_digest
from tinyvit_kd.views.spec_hash import view_spec_hash


def made_up_manifest(
    lengths: Mapping[str, int], key_hashes: tuple[int, ...], spec: ViewSpec, topk: int, classes: int, views: int = 1
) -> Manifest:
    """The manifest of a compact store whose teacher does not exist.

    Args:
        lengths: of the shards, by name.
    """
    return Manifest(
        shard_set="made up",
        shard_names=tuple(lengths),
        shard_lengths=tuple(lengths.values()),
        key_hashes=key_hashes,
        view_spec=spec.model_dump(mode="json"),
        view_spec_hash=view_spec_hash(spec),
        teacher=TeacherEntry(
            name="made up", weights_hash="00" * 16, image_size=spec.size, mean=spec.mean, std=spec.std, precision="none"
        ),
        num_classes=classes,
        class_list=None,
        class_list_hash=None,
        topk=topk,
        views=views,
        encoding="compact",
        seed=0,
        versions={},
    )


def made_up_block(length: int, topk: int, classes: int, seed: int = 0) -> Block:
    """Random records, of seeds and digests zero."""
    draw = np.random.default_rng(seed)
    masses = np.exp(draw.normal(0, 3, (length, topk + 1)))
    masses /= masses.sum(axis=1, keepdims=True)
    steps = draw.integers(1, classes // topk, (length, topk))
    block = Block.empty(length, topk)
    block.indices[:] = np.cumsum(steps, axis=1) - 1
    block.probs[:], block.residual[:] = masses[:, :-1], masses[:, -1]
    return block


def made_up_store(path: Path, shards: ShardSet, spec: ViewSpec, topk: int, classes: int, views: int) -> LogitStore:
    """A store that stage two can replay: every view is rendered once for its digest."""
    lengths = dict(zip(shards.names, shards.lengths.tolist(), strict=True))
    manifest = made_up_manifest(lengths, tuple(shards.key_hashes()), spec, topk, classes, views)
    store, reader = LogitStore.create(path, manifest), shards.reader()
    for shard, length in enumerate(shards.lengths.tolist()):
        blocks = [made_up_block(length, topk, classes, seed=view) for view in range(views)]
        for index in range(length):
            _see(reader, shard, index, spec, blocks)
        for view, block in enumerate(blocks):
            store.write_block(shard, view, block)
    return store


def _see(reader: ShardReader, shard: int, index: int, spec: ViewSpec, blocks: list[Block]) -> None:
    """Put a sample's seeds and digests into its records."""
    seeds = [view_seed(0, shard, index, view) for view in range(len(blocks))]
    for block, seed, view in zip(blocks, seeds, render_views(reader.read(shard, index), seeds, spec), strict=True):
        block.seeds[index], block.digests[index] = seed, view_digest(view)


def stored_batches(
    shards: ShardSet, store: LogitStore, batch: int, lanes: int, verify_rate: float = 1.0, steps: int = 1
) -> StoredBatches:
    """Stage two's batches, as its defaults have them, of more epochs than are timed.

    Args:
        steps: within how many consecutive steps loading processes work at the same time.
    """
    schedule = ScheduleConfig(epochs=1 << 20, global_batch_size=batch, lanes=lanes)
    manifest, config = store.manifest, StoredTargetsConfig(path=store_folder(store), verify_rate=verify_rate)
    views = ViewSchedule(1, ((0, manifest.views),))
    plan = StepPlan(tuple(shards.lengths.tolist()), schedule, rank_lanes(lanes, 0, 1), stored=views)
    samples = SampleViews(shards.reader(), ViewSpec.model_validate(manifest.view_spec), manifest.seed)
    return StoredBatches(samples, block_caches(config, [store], plan, steps), config, plan)
