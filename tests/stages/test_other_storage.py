"""All stages work on a store that is no folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import World
from tests.storage.memory import MemoryStorage
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.stages.store.check import check
from tinyvit_kd.stages.store.info import info
from tinyvit_kd.storage.open import BACKENDS
from tinyvit_kd.store.store import LogitStore

URL = "memory://a-bucket/store"


def test_a_dump_and_a_training_on_an_object_store_equal_those_on_a_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "memory", MemoryStorage)
    dump_logits(world.dump(store={"path": URL, "topk": 5, "views": 2}), solo_job())
    stored, local = LogitStore.open(URL), LogitStore.open(world.folder / "store")
    assert stored.manifest == local.manifest
    for shard, view in local.present_blocks([]):
        assert np.array_equal(stored.read_planes(shard, view), local.read_planes(shard, view))
    assert check(URL, 1).sound
    assert "6 of 6" in info(URL)[0]
    remote = pretrain(world.pretrain(store={"path": URL}, output=str(world.folder / "remote")), solo_job())
    here = pretrain(world.pretrain(), solo_job())
    assert remote["loss"] == here["loss"]
    (theirs, _), (ours, _) = (load_model_file(world.folder / name) for name in ("remote", "distilled"))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
