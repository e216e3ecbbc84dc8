"""Stages whose store is an object store make what they make on a disk, whatever the service and the network do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import World
from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.shared_memory import start_method
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore

WORKERS = {"workers": 2, "prefetch": 1}


@pytest.mark.slow
def test_loading_processes_read_a_store_at_a_url_as_one_on_a_disk(world: World, s3: S3Server) -> None:
    url = f"s3://{BUCKET}/two-workers"
    dump_logits(world.dump(store={"path": url, "topk": 5, "views": 2}, runtime=WORKERS), solo_job())
    assert start_method() == "spawn"
    stored, local = LogitStore.open(url), LogitStore.open(world.folder / "store")
    assert stored.manifest == local.manifest
    for shard, view in local.present_blocks([]):
        assert np.array_equal(stored.read_planes(shard, view), local.read_planes(shard, view))
    s3.faults.calm()
    output = str(world.folder / "remote")
    remote = pretrain(world.pretrain(store={"path": url}, output=output, runtime=WORKERS), solo_job())
    here = pretrain(world.pretrain(), solo_job())
    assert remote["loss"] == here["loss"]
    (theirs, _), (ours, _) = (load_model_file(world.folder / name) for name in ("remote", "distilled"))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
