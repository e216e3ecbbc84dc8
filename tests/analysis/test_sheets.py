"""A sheet shows the views exactly as they were replayed, and marks those that differ, are missing or are holes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.tiny_world import MIXED, SIZE, World, draw_shards, make_teacher
from tinyvit_kd.analysis.samples.drawing import PALE, RED
from tinyvit_kd.analysis.samples.sheets import MARGIN, sample_sheet
from tinyvit_kd.analysis.samples.stored_samples import StoredSample, StoredSamples
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ManifestMismatchError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.statistics import holes
from tinyvit_kd.store.store import LogitStore

TILE = 192  # twelve times a view of the tiny world


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with mixed views and a hole."""
    folder = tmp_path_factory.mktemp("mixed")
    draw_shards(folder, 57, broken=[5])
    make_teacher(folder)
    dump_logits(World(folder).dump(views=MIXED), solo_job())
    return folder


def opened(folder: Path) -> StoredSamples:
    shards = ShardSet.load(folder / "shards", "train")
    return StoredSamples.open(LogitStore.open(folder / "store"), shards)


def sheet(samples: Sequence[StoredSample]) -> npt.NDArray[np.uint8]:
    return np.asarray(sample_sheet(samples, [f"class {number}" for number in range(24)]))


def test_a_view_s_pixels_are_on_the_sheet_as_they_were_replayed(mixed: Path) -> None:
    samples = opened(mixed)
    sample = samples.sample(0, 3, [0, 1])
    picture = sheet([sample])
    for column, view in enumerate(sample.views, start=1):
        assert view.pixels is not None
        assert view.error is None
        enlarged = view.pixels.transpose(1, 2, 0).repeat(TILE // SIZE, axis=0).repeat(TILE // SIZE, axis=1)
        assert contains(picture, enlarged, MARGIN + column * (TILE + 10))


def contains(picture: npt.NDArray[np.uint8], part: npt.NDArray[np.uint8], left: int) -> bool:
    strip = picture[:, left : left + TILE]
    return any(np.array_equal(strip[top : top + TILE], part) for top in range(len(strip) - TILE + 1))


def test_a_mixed_view_names_what_is_mixed_in(mixed: Path) -> None:
    samples = opened(mixed)
    looked_at = [samples.sample(0, index, [0]) for index in range(12)]
    told = [each for each in looked_at if each.mixed_labels[0] is not None]
    assert len(told) > 6
    for each in told:
        assert each.mixed_labels[0] == samples.label(0, each.views[0].mixed_in)


def test_a_hole_is_shown_as_one_and_is_no_difference(mixed: Path) -> None:
    ((shard, index, reason),) = holes(LogitStore.open(mixed / "store"))
    sample = opened(mixed).sample(shard, index, [0])
    assert sample.views[0].hole == reason.name.lower()
    assert not sample.views[0].differs
    picture = sheet([sample])
    assert (picture == PALE).all(axis=2).sum() > TILE * TILE / 2
    assert (picture == RED).all(axis=2).any(), "the image cannot be decoded, which is told in its place"


def test_a_view_of_another_image_is_framed_in_red(world: World, tmp_path: Path) -> None:
    same, other = opened(world.folder).sample(0, 0, [0]), replaced(world, tmp_path).sample(0, 0, [0])
    assert not same.views[0].differs
    assert other.views[0].differs
    assert not (sheet([same]) == RED).all(axis=2).any()
    assert (sheet([other]) == RED).all(axis=2).sum() > 4 * TILE


def replaced(world: World, tmp_path: Path) -> StoredSamples:
    """The world's store with shards of the same names and lengths, but other images."""
    draw_shards(tmp_path / "other", seed=1)
    return StoredSamples.open(LogitStore.open(world.store), ShardSet.load(tmp_path / "other" / "shards", "train"))


def test_shards_of_other_names_are_refused(world: World, tmp_path: Path) -> None:
    draw_shards(tmp_path, samples=60, split="other")
    with pytest.raises(ManifestMismatchError):
        StoredSamples.open(LogitStore.open(world.store), ShardSet.load(tmp_path / "shards", "other"))


def test_a_block_that_is_missing_is_told(world: World) -> None:
    (world.store / "s000000" / "c.1.0.0").unlink()
    sample = opened(world.folder).sample(0, 0, [0, 1])
    assert [view.record is None for view in sample.views] == [False, True]
    assert not sample.views[1].differs
    sheet([sample])


def test_labels_have_the_names_of_classes(world: World) -> None:
    samples = opened(world.folder)
    label = samples.label(0, 0)
    assert samples.shards.class_list is not None
    own = int(samples.views.reader.labels(0, np.array([0]))[0])
    assert label.name == samples.shards.class_list.ids[own] == samples.names[label.teacher_class]


def test_a_transform_is_called_only_where_it_is_trusted(tmp_path: Path) -> None:
    from tests.views.transforms import PIPELINE

    draw_shards(tmp_path, 6)
    make_teacher(tmp_path)
    dump_logits(World(tmp_path).dump(views={"size": SIZE, "transform": PIPELINE}), solo_job())
    with pytest.raises(ConfigError, match="would import and call"):
        opened(tmp_path)
    shards = ShardSet.load(tmp_path / "shards", "train")
    samples = StoredSamples.open(LogitStore.open(tmp_path / "store"), shards, trusted=True)
    assert samples.sample(0, 0, [0]).views[0].error is None
