"""One tiny world a session, and copies of it for tests that change something."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.world import World, draw_shards, make_teacher
from tinyvit_kd.batches.stored import StoredBatches
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.training.batch import Batch

Seen = list[tuple[StoredBatches, int, Batch]]


@pytest.fixture(scope="session")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a teacher and a finished store; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    draw_shards(folder)
    make_teacher(folder)
    dump_logits(World(folder).dump(), solo_job())
    return folder


@pytest.fixture
def world(dumped: Path, tmp_path: Path) -> World:
    """A copy of the dumped world."""
    shutil.copytree(dumped, tmp_path / "world")
    return World(tmp_path / "world")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often each sample's image (shard, index) is read, and so decoded, in this process."""
    counts: Counter[tuple[int, int]] = Counter()
    read = ShardReader.read

    def counting(self: ShardReader, shard: int, index: int) -> bytes:
        counts[shard, index] += 1
        return read(self, shard, index)

    monkeypatch.setattr(ShardReader, "read", counting)
    return counts


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The batches of a run of stage two, their makers and steps."""
    batches: Seen = []
    join, fill = StoredBatches.join, StoredBatches.fill
    steps: list[int] = []

    def noting(self: StoredBatches, task: int, arrays: Any) -> int:
        steps.append(task)
        return fill(self, task, arrays)

    def keeping(self: StoredBatches, tensors: Any, extra: int) -> Batch:
        batch = join(self, tensors, extra)
        batches.append((self, steps[-1], batch._map(torch.clone)))
        return batch

    monkeypatch.setattr(StoredBatches, "fill", noting)
    monkeypatch.setattr(StoredBatches, "join", keeping)
    return batches
