"""Views of transforms with generators of their own go through all stages; what cannot be seeded is caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.local_files import store_folder
from benchmarks.tiny_world import World
from tests.stages.test_transforms import dump, replay
from tests.views.with_own_generators import HERE, PIPELINE
from tinyvit_kd.errors import TransformError
from tinyvit_kd.stages.store.check import check

NOISE = {"call": f"{HERE}.Noise"}


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_every_view_of_a_pipeline_of_albumentations_is_replayed_bit_for_bit(
    world: World, mixing: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("albumentations", reason="Albumentations is not installed (extra albumentations)")
    store = dump(world, PIPELINE, views=mixing)
    said = capsys.readouterr().err
    assert "views come from albumentations.Compose, replayed by seeding" in said
    assert "torch's default generators and its own" in said
    assert {"albumentationsx", "albucore", "opencv-python-headless"} <= store.manifest.versions.keys()
    assert replay(world)["digests_checked"] == 2 * 96
    assert "versions differ" not in capsys.readouterr().err
    assert check(store_folder(store), 1).sound


@pytest.mark.parametrize("transform", [PIPELINE, NOISE], ids=["albumentations", "a class"])
def test_the_number_of_workers_changes_no_view(world: World, transform: dict[str, Any]) -> None:
    if transform is PIPELINE:
        pytest.importorskip("albumentations", reason="Albumentations is not installed (extra albumentations)")
    one = dump(world, transform, "one")
    two = dump(world, transform, "two", runtime={"workers": 2})
    for shard, view in ((0, 0), (1, 1), (2, 0)):
        assert np.array_equal(one.read_block(shard, view).digests, two.read_block(shard, view).digests)
    assert replay(world, "one", runtime={"workers": 2})["digests_checked"] == 2 * 96


def test_opencv_takes_one_thread_in_a_loading_process(world: World) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed (extra albumentations)")
    dump(world, {"name": f"{HERE}.in_one_thread"}, runtime={"workers": 1})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "transform",
    [
        {"call": f"{HERE}.of_the_module"},
        {"call": f"{HERE}.TorchNoise"},
        {"call": f"{HERE}.PartlySeeded"},
        {"call": f"{HERE}.Counting"},
        {"call": f"{HERE}.unseeded_drawing"},
    ],
    ids=[
        "a generator of the module's",
        "a generator of torch's",
        "an unseeded one beside",
        "state",
        "a pipeline inside",
    ],
)
def test_what_its_method_does_not_seed_is_caught_at_the_dump(
    world: World, transform: dict[str, Any], workers: int
) -> None:
    if transform["call"].endswith("drawing"):
        pytest.importorskip("albumentations", reason="Albumentations is not installed (extra albumentations)")
    with pytest.raises(TransformError, match="seeding cannot reach") as caught:
        dump(world, transform, runtime={"workers": workers})
    assert caught.value.where.startswith(f"views.transform: {HERE}.")
    assert "set_random_seed(seed)" in caught.value.fix
    assert not list((world.folder / "other").rglob("c.*"))
