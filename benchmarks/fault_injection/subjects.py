"""What corruptions are done to: a finished store, a run's checkpoints and a shard set, and how each of them is read."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from contextlib import redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from benchmarks.fault_injection.compare import block_digest
from benchmarks.fault_injection.world import DUMP, PRETRAIN, SHARDS, FaultWorld, Size
from benchmarks.local_files import block_file
from benchmarks.tiny_world import make_teacher
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import CheckpointError, TinyVitKdError
from tinyvit_kd.models.modelfile import MODEL, load_model_file
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.store_agreement import require_same_shards
from tinyvit_kd.stages.store.check import check
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints, load_checkpoint, load_latest

SIZE = Size(samples=96, per_shard=32, views=4, epochs=1)  # and a checkpoint at steps 3 and 6
SampleView = tuple[int, int, int]  # view number, shard, index
SampleRange = tuple[int, int]  # bytes of a tar


class Subjects:
    """A small world of its own, whose files are damaged and put right again.

    Args:
        folder: where it is made.
        seed: varies its images, weights and views.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = FaultWorld(folder, SIZE, seed)
        self.shards = self.world.reference(SHARDS).output
        self.store = self.world.reference(DUMP).output
        run = self.world.reference(PRETRAIN).output
        self.checkpoints, self.model = run / CHECKPOINTS, run / MODEL
        self.other_teacher, self.other_seed = folder / "other-teacher", folder / "other-seed"

    def make(self) -> None:
        """Make everything, in this process."""
        self.world.draw()
        for target in (SHARDS, DUMP, PRETRAIN):
            self.world.reference(target).run_here()
        for shard in range(SIZE.shards):
            load_index(self.tar(shard))  # beside the shards, as training keeps it
        another = make_teacher(self.world.folder / "another", seed=self.world.seed + 2)
        self._dump(self.other_teacher, teacher={"checkpoint": str(another)})
        self._dump(self.other_seed, store={"topk": 5, "views": SIZE.views, "seed": self.world.seed + 1})

    def tar(self, shard: int) -> Path:
        """A shard's file."""
        return self.shards / f"train-{shard:06d}.tar"

    def index_of(self, shard: int) -> Path:
        """The file of a shard's byte index."""
        return self.shards / f"{self.tar(shard).name}.idx.npz"

    def block(self, shard: int, view: int) -> Path:
        """A block's file."""
        return block_file(self._original, shard, view)

    @cached_property
    def indexes(self) -> list[ShardIndex]:
        """Where the samples of each shard are."""
        return [load_index(self.tar(shard)) for shard in range(SIZE.shards)]

    @cached_property
    def samples(self) -> list[list[SampleRange]]:
        """From where to where each sample of each shard reaches, headers and padding included."""
        return [_sample_ranges(self.tar(shard)) for shard in range(SIZE.shards)]

    # How things are read; what is read is compared with what the same call gave before anything was damaged.

    def read_blocks(self, blocks: Iterable[tuple[int, int]]) -> object:
        """Records of some blocks of the store, (shard, view) each."""
        store = LogitStore.open(self.store)
        return [block_digest(store.read_block(*block)) for block in blocks]

    def read_store(self) -> object:
        """All that the store says: how many views, their records, and the classes."""
        store = LogitStore.open(self.store)
        views = range(store.manifest.views)
        classes = stored_classes(store)
        blocks = [block_digest(store.read_block(shard, view)) for shard in range(SIZE.shards) for view in views]
        return blocks, classes.ids if classes is not None else None

    def store_is_sound(self) -> bool:
        """What ``store check`` says; missing blocks are counted as unsound here."""
        try:
            with redirect_stderr(io.StringIO()):  # a bar would be drawn for every call
                report = check(self.store, 1)
        except TinyVitKdError:
            return False
        return report.sound and not report.missing

    def read_checkpoint(self) -> object:
        """What a run would continue from.

        Raises:
            CheckpointError: nothing; or the newest was passed over, and the one before it is as it was.
        """
        skipped = list[CheckpointError]()
        state = load_latest(self.checkpoints, skipped.append)
        digest = state_digest(state)
        if skipped and digest == self.older_state:
            raise skipped[0]
        return digest

    def read_model(self) -> object:
        """Weights and card of the finished student."""
        state, card = load_model_file(self.model)
        return state_digest(state), card

    @cached_property
    def older_state(self) -> str:
        """Digest of the checkpoint before the newest."""
        return state_digest(load_checkpoint(checkpoints(self.checkpoints)[1]))

    def replay(self, wanted: Iterable[SampleView]) -> object:
        """Views and targets of samples as ``pretrain`` gets them, after the checks with which it begins."""
        store = LogitStore.open(self.store)
        shards = ShardSet.load(self.shards, "train")
        require_same_shards(store.manifest, shards)
        samples = SampleViews(shards.reader(), ViewSpec.model_validate(store.manifest.view_spec), self.world.seed)
        config = StoredTargetsConfig(path=self.store)
        batches = StoredBatches(samples, (BlockCache(store, 1 << 24),), config, self._plan)
        return [_batch_digest(batches(self._steps[sample])) for sample in wanted]

    @cached_property
    def _original(self) -> LogitStore:
        return LogitStore.open(self.store)

    @cached_property
    def _plan(self) -> StepPlan:
        """One sample a step, every view in turn."""
        schedule = ScheduleConfig(epochs=SIZE.views, global_batch_size=1, lanes=1, window=8)
        views = ViewSchedule(1, ((0, SIZE.views),))
        return StepPlan((SIZE.per_shard,) * SIZE.shards, schedule, range(1), stored=views)

    @cached_property
    def _steps(self) -> dict[SampleView, int]:
        """At which step of the plan a view comes."""
        found = dict[SampleView, int]()
        for step in range(SIZE.views * SIZE.samples):
            epoch, shards, indexes = self._plan.samples(step)
            found[epoch, int(shards[0]), int(indexes[0])] = step
        return found

    def _dump(self, path: Path, **changes: dict[str, Any]) -> None:
        store = {"topk": 5, "views": SIZE.views, "seed": self.world.seed} | changes.get("store", {})
        with redirect_stderr(io.StringIO()):
            self.world.run_here(DUMP.stage, path, **changes | {"store": store | {"path": str(path)}})


def state_digest(state: object) -> str:
    """32 hexadecimal digits over a tree of tensors, numbers and texts, bit for bit."""
    digest = xxhash.xxh3_128()
    _add(digest, state)
    return digest.hexdigest()


def _add(digest: Any, tree: object) -> None:
    if isinstance(tree, dict):
        for name, value in tree.items():
            digest.update(repr(name).encode())
            _add(digest, value)
    elif isinstance(tree, list | tuple):
        digest.update(f"{type(tree).__name__} {len(tree)}".encode())
        for value in tree:
            _add(digest, value)
    elif isinstance(tree, torch.Tensor):
        digest.update(f"{tree.dtype} {list(tree.shape)}".encode())
        digest.update(np.ascontiguousarray(tree.detach().cpu().numpy()).tobytes())
    else:
        digest.update(repr(tree).encode())


def _batch_digest(batch: Any) -> str:
    return state_digest([batch.views, batch.weights, tuple(batch.targets)])


def _sample_ranges(path: Path) -> list[SampleRange]:
    starts = dict[str, int]()
    with tarfile.open(path) as tar:
        for member in tar:
            starts.setdefault(member.name.partition(".")[0], member.offset)
        ends = [*list(starts.values())[1:], tar.offset]
    return list(zip(starts.values(), ends, strict=True))
