"""An image of a view is bit for bit the view that the teacher saw, or there is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tinyvit_kd
from benchmarks.tiny_world import SIZE, World, draw_shards
from tests.api.world import SPECS, dumped, places, shards_of
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.synthetic import write_image_folder
from tinyvit_kd.errors import BadImageError, ConfigError, ManifestMismatchError, ReplayError
from tinyvit_kd.views.render import view_digest


@pytest.mark.parametrize("views", SPECS.values(), ids=SPECS.keys())
def test_a_view_is_the_one_that_the_teacher_saw(material: Path, tmp_path: Path, views: dict[str, Any]) -> None:
    world = dumped(material, tmp_path, views)
    shards, store = shards_of(world), tinyvit_kd.open_store(tmp_path / "store")
    alone = tinyvit_kd.ViewSpec.model_validate({**views, "mixup": 0, "cutmix": 0})
    spec = tinyvit_kd.ViewSpec.model_validate(views)
    seen, were_mixed = 0, 0
    for shard, index in list(places(shards))[::3]:
        record = tinyvit_kd.records(store, shard, 1, index)
        if not record.valid[0]:
            continue
        view = tinyvit_kd.view_image(shards, store, shard, index, 1, trust_transform=True)
        assert view_digest(view) == record.digests[0]
        assert np.array_equal(view, tinyvit_kd.view_image(shards, spec, shard, index, 1, seed=store.manifest.seed))
        were_mixed += not np.array_equal(view, tinyvit_kd.view_image(shards, alone, shard, index, 1))
        seen += 1
    assert seen >= 32
    assert (were_mixed > 20) == spec.mixes


def test_a_view_that_is_not_the_teacher_s_is_refused(plain: World, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "images", 97, seed=1)
    build_shards(tmp_path / "images", tmp_path / "shards", "train", samples_per_shard=40, seed=0, processes=1)
    store = tinyvit_kd.open_store(plain.folder / "store")
    with pytest.raises(ReplayError, match="not the view that the teacher saw"):
        tinyvit_kd.view_image(tinyvit_kd.open_shards(tmp_path / "shards"), store, 0, 0)
    draw_shards(tmp_path, samples=60, split="other")
    with pytest.raises(ManifestMismatchError, match="shard_names, shard_lengths"):
        tinyvit_kd.view_image(tinyvit_kd.open_shards(tmp_path / "shards", "other"), store, 0, 0)


def test_a_hole_has_no_view(plain: World) -> None:
    shards, store = shards_of(plain), tinyvit_kd.open_store(plain.folder / "store")
    (place,) = [
        (shard, index)
        for shard in range(3)
        for index in np.flatnonzero(~tinyvit_kd.records(store, shard, 0).valid).tolist()
    ]
    key = tinyvit_kd.read_sample(shards, *place).key
    with pytest.raises(ReplayError, match="hole") as caught:
        tinyvit_kd.view_image(shards, store, *place)
    assert caught.value.found == "unreadable"
    for source in (tinyvit_kd.ViewSpec(size=SIZE), tinyvit_kd.EvalViewSpec(size=SIZE)):
        with pytest.raises(BadImageError) as undecodable:
            tinyvit_kd.view_image(shards, source, *place)
        assert f"sample {key} of shard" in undecodable.value.where


def test_a_store_s_transform_is_called_only_where_it_is_trusted(material: Path, tmp_path: Path) -> None:
    world = dumped(material, tmp_path, SPECS["transform"])
    with pytest.raises(ConfigError, match="would import and call") as caught:
        tinyvit_kd.view_image(shards_of(world), tinyvit_kd.open_store(tmp_path / "store"), 0, 0)
    assert caught.value.fix.endswith("pass trust_transform=True")


def test_a_grid_shows_each_view_once() -> None:
    views = np.arange(5 * 3 * 4 * 4, dtype=np.uint8).reshape(5, 3, 4, 4)
    for given in (views, list(views), torch.from_numpy(views), (view for view in views)):
        grid = np.asarray(tinyvit_kd.view_grid(given, columns=2))
        assert grid.shape == (3 * 6 - 2, 2 * 6 - 2, 3)
        for number, view in enumerate(views):
            top, left = number // 2 * 6, number % 2 * 6
            assert np.array_equal(grid[top : top + 4, left : left + 4], view.transpose(1, 2, 0))
        assert (grid[12:, 6:] == 255).all()
    assert tinyvit_kd.view_grid(views).size == (3 * 6 - 2, 2 * 6 - 2)
    for unfit in ([], [views[0], views[0, :, :2]], views[:, 0], views / 255):
        with pytest.raises(ConfigError, match="made of views"):
            tinyvit_kd.view_grid(unfit)
