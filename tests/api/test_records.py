"""Samples are those in the shards, and records are those in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tinyvit_kd
from benchmarks.tiny_world import World
from tests.api.world import places, shards_of
from tests.store.blocks import manifest_of
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.training.loss import soft_loss


def test_samples_are_what_lies_in_the_shards(plain: World) -> None:
    shards = shards_of(plain)
    samples = list(tinyvit_kd.iterate_samples(shards))
    assert [(sample.shard, sample.index) for sample in samples] == list(places(shards))
    assert samples[40:80] == list(tinyvit_kd.iterate_samples(shards, 1))
    for sample in samples[1::13]:
        assert sample == tinyvit_kd.read_sample(shards, sample.shard, sample.index)
        assert sample == tinyvit_kd.find_sample(shards, sample.key)
        assert sample.image_bytes.startswith(b"\xff\xd8")
        assert sample.image.mode == "RGB"
    assert shards.class_list is not None
    found = [(sample.image_bytes, shards.class_list.ids[sample.label]) for sample in samples]
    images = (plain.folder / "shards").resolve().parent.glob("images-train/*/*.jpg")
    assert sorted(found) == sorted((path.read_bytes(), path.parent.name) for path in images)


def test_records_are_the_block_s_in_the_order_that_is_asked_for(plain: World) -> None:
    store = tinyvit_kd.open_store(plain.folder / "store")
    block, whole = store.read_block(1, 1), tinyvit_kd.records(store, 1, 1)
    some, one = tinyvit_kd.records(store, 1, 1, [7, 0, 39, 7]), tinyvit_kd.records(store, 1, 1, 39)
    for name in ("classes", "probs", "residual", "seeds", "digests", "status", "valid"):
        expected = getattr(block, "indices" if name == "classes" else name)
        assert np.array_equal(getattr(whole, name), expected)
        assert np.array_equal(getattr(some, name), expected[[7, 0, 39, 7]])
        assert np.array_equal(getattr(one, name), expected[[39]])
    assert (len(whole), len(some), len(one)) == (40, 4, 1)


def test_dense_is_the_distribution_that_the_loss_learns(plain: World) -> None:
    store = tinyvit_kd.open_store(plain.folder / "store")
    holes = 0
    for shard in range(3):
        records = tinyvit_kd.records(store, shard, 0)
        probs = tinyvit_kd.dense(records, store.manifest.num_classes)
        assert probs.dtype == np.float32
        assert probs.shape == (len(records), 24)
        np.testing.assert_allclose(probs.sum(axis=1), records.valid, rtol=1e-6)
        np.testing.assert_array_equal(np.take_along_axis(probs, records.classes, axis=1), records.probs)
        np.testing.assert_array_equal(records.top1, np.where(records.valid, probs.argmax(axis=1), -1))
        assert not probs[~records.valid].any()
        holes += (~records.valid).sum()
        logits = torch.randn(probs.shape, generator=torch.Generator().manual_seed(shard))
        classes, stored = torch.from_numpy(records.classes).long(), torch.from_numpy(records.probs)
        residual, weights = torch.from_numpy(records.residual), torch.from_numpy(records.valid).float()
        expected = -(torch.from_numpy(probs) * logits.log_softmax(dim=1)).sum(dim=1).mean()
        torch.testing.assert_close(soft_loss(logits, classes, stored, residual, weights), expected)
    assert holes == 1


def test_dense_of_all_classes_has_no_rest_to_spread(material: Path, tmp_path: Path) -> None:
    store = {"path": str(tmp_path / "store"), "topk": 24, "views": 1, "encoding": "exact"}
    dump_logits(World(material).dump(store=store), solo_job())
    records = tinyvit_kd.records(tinyvit_kd.open_store(tmp_path / "store"), 0, 0)
    np.testing.assert_array_equal(tinyvit_kd.dense(records, 24), records.probs)


def test_a_shard_without_samples_has_no_records(tmp_path: Path) -> None:
    tinyvit_kd.LogitStore.create(tmp_path, manifest_of((3, 0)))
    found = tinyvit_kd.records(tinyvit_kd.open_store(tmp_path), 1, 0)
    assert (len(found), found.classes.shape) == (0, (0, 5))
    assert tinyvit_kd.dense(found, 1000).shape == (0, 1000)


def test_a_view_number_that_a_store_does_not_have_is_named(plain: World) -> None:
    store = tinyvit_kd.open_store(plain.folder / "store")
    for view in (-1, 2):
        with pytest.raises(ConfigError, match=r"no view with this number.*Expected: 0 to 1"):
            tinyvit_kd.records(store, 0, view)
