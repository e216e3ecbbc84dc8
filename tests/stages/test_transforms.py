"""Views from any other transform go through all stages; one that is no function of its seed is caught at the dump."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.local_files import store_folder
from benchmarks.tiny_world import TRAINING, World, draw_shards, make_teacher
from tests.views import transforms
from tests.views.transforms import PIPELINE, SIZE, SOUND, timm
from tinyvit_kd.errors import ConfigError, ReplayError, TransformError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.stages.store.check import check
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.transform import forget_built

HERE = "tests.views.transforms"


def dump(world: World, transform: dict[str, Any], name: str = "other", **sections: Any) -> LogitStore:
    """A store of two views of every sample."""
    path = world.folder / name
    views = {"size": SIZE, "transform": transform} | sections.pop("views", {})
    store = {"path": str(path), "topk": 3, "views": 2}
    dump_logits(world.dump(**{"views": views, "store": store} | sections), solo_job())
    return LogitStore.open(path)


def replay(world: World, name: str = "other", **sections: Any) -> dict[str, float]:
    """Stage two from such a store."""
    store = {"path": str(world.folder / name), "trust_transform": True}
    return pretrain(world.pretrain(store=store, **sections), solo_job())


@pytest.mark.parametrize(
    ("transform", "mixing"),
    [(SOUND["three-augment"], {}), (PIPELINE, {"mixup": 0.8, "cutmix": 1.0})],
    ids=["three-augment", "torchvision v2, mixed"],
)
def test_every_view_of_a_transform_is_replayed_bit_for_bit(
    world: World, transform: dict[str, Any], mixing: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    store = dump(world, transform, views=mixing)
    assert f"views come from {transform['call']}, replayed by seeding" in capsys.readouterr().err
    assert {"torchvision", "timm", "python"} <= store.manifest.versions.keys()
    assert replay(world)["digests_checked"] == 2 * 96
    assert "versions differ" not in capsys.readouterr().err
    assert check(store_folder(store), 1).sound


def test_the_number_of_workers_changes_no_view(world: World) -> None:
    one = dump(world, SOUND["AugMix"], "one")
    two = dump(world, SOUND["AugMix"], "two", runtime={"workers": 2})
    for shard, view in ((0, 0), (1, 1), (2, 0)):
        assert np.array_equal(one.read_block(shard, view).digests, two.read_block(shard, view).digests)
    assert replay(world, "one", runtime={"workers": 2})["digests_checked"] == 2 * 96


def test_labels_train_on_a_transforms_views(world: World) -> None:
    result = finetune(world.finetune(views={"size": SIZE, "transform": PIPELINE, "mixup": 0.8}), solo_job())
    assert np.isfinite(result["loss"])


def test_a_stores_transform_is_called_only_where_the_recipe_trusts_it(world: World) -> None:
    dump(world, timm())
    with pytest.raises(ConfigError, match="would import and call") as caught:
        pretrain(world.pretrain(store={"path": str(world.folder / "other")}), solo_job())
    assert "timm.data.create_transform" in caught.value.found
    assert caught.value.fix.endswith("set store.trust_transform: true")


def test_a_further_teacher_takes_its_views_from_a_transform_that_its_recipe_names_too(world: World) -> None:
    first = dump(world, timm())
    store = {"path": str(world.folder / "second"), "topk": 3, "views": 2}
    views: dict[str, Any] = {"size": SIZE, "transform": timm()}
    with pytest.raises(ConfigError, match="would import and call"):
        dump_logits(world.dump(store=store, views={}, views_from=first.where), solo_job())
    dump_logits(world.dump(store=store, views=views, views_from=first.where), solo_job())
    second = LogitStore.open(world.folder / "second")
    assert np.array_equal(first.read_block(1, 1).digests, second.read_block(1, 1).digests)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "transform",
    [
        {"call": f"{HERE}.WithItsOwnGenerator"},
        {"call": f"{HERE}.WithASeededGenerator"},
        {"call": f"{HERE}.WithState"},
        {"call": f"{HERE}.WithState", "kwargs": {"period": 2}},
        {"name": f"{HERE}.with_a_global_generator"},
    ],
    ids=["its own generator", "a seeded generator", "state", "state that repeats with the views", "a global generator"],
)
def test_randomness_that_seeding_cannot_reach_is_caught_at_the_dump(
    world: World, transform: dict[str, Any], workers: int
) -> None:
    with pytest.raises(TransformError, match="seeding cannot reach") as caught:
        dump(world, transform, runtime={"workers": workers})
    assert caught.value.where.startswith(f"views.transform: {HERE}.")
    assert "sample 0000" in caught.value.where
    assert not list((world.folder / "other").rglob("c.*"))


def test_randomness_that_shows_later_is_caught_later(world: World) -> None:
    store = {"path": str(world.folder / "other"), "topk": 3, "views": 6}
    with pytest.raises(TransformError, match="seeding cannot reach"):
        dump(world, {"call": f"{HERE}.RarelyItsOwn"}, store=store)


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8}], ids=["plain", "mixed"])
def test_labels_are_not_trained_on_views_that_nobody_could_make_again(world: World, mixing: dict[str, float]) -> None:
    views = {"size": SIZE, "transform": {"call": f"{HERE}.WithItsOwnGenerator"}} | mixing
    with pytest.raises(TransformError, match="seeding cannot reach"):
        finetune(world.finetune(views=views), solo_job())


def test_a_view_that_fails_is_drawn_again_and_replayed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    store = dump(world, {"name": f"{HERE}.fussy"})
    assert capsys.readouterr().err.count("raised ValueError on a view; such views are drawn again") == 1
    assert store.read_block(0, 0).valid.all()
    assert replay(world)["digests_checked"] == 2 * 96


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8}], ids=["plain", "mixed"])
def test_a_dump_does_not_go_on_with_other_views_than_its_store_has(
    world: World, mixing: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "today", transforms.fitted, raising=False)
    dump(world, {"name": f"{HERE}.today"}, views=mixing)
    more = {"path": str(world.folder / "other"), "topk": 3, "views": 3}
    monkeypatch.setattr(transforms, "today", transforms.stripes)
    forget_built()
    with pytest.raises(ReplayError, match="other views than those in its store") as caught:
        dump(world, {"name": f"{HERE}.today"}, views=mixing, store=more)
    assert "sample 0000" in caught.value.where
    monkeypatch.setattr(transforms, "today", transforms.fitted)
    forget_built()
    assert dump(world, {"name": f"{HERE}.today"}, views=mixing, store=more).complete_views() == 3


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8}], ids=["plain", "mixed"])
def test_one_view_a_batch_is_enough_to_catch_it(world: World, mixing: dict[str, float]) -> None:
    with pytest.raises(TransformError, match="seeding cannot reach"):
        dump(world, {"call": f"{HERE}.WithASeededGenerator"}, views=mixing, batch_size=1, views_per_decode=1)


def test_the_first_batch_and_a_sample_of_every_other_are_rendered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(image: Image.Image) -> Image.Image:
        calls.append(image)
        return transforms.fitted(image)

    monkeypatch.setattr(transforms, "counted", counted, raising=False)
    dump(world, {"name": f"{HERE}.counted"})
    again = (1 + 20) + (2 + 20)  # a batch of twenty, behind one call and behind two
    assert len(calls) == 2 * 96 + again + 9 * 2  # two views of each of nine more batches


def test_a_faulty_transform_is_named_with_its_sample(world: World) -> None:
    for name, message in (("failing", "fails on an image with every seed"), ("as_floats", "does not return a view")):
        with pytest.raises(TransformError, match=message) as caught:
            dump(world, {"name": f"{HERE}.{name}"}, name)
        assert caught.value.where.startswith(f"views.transform: {HERE}.{name}; sample 0000")


def test_code_that_changed_since_the_dump_is_found_at_the_first_view(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "views_of_today.py"
    module.write_text(f"from {HERE} import fitted as view\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    dump(world, {"name": "views_of_today.view"})
    monkeypatch.setattr(sys.modules["views_of_today"], "view", transforms.stripes)
    forget_built()
    with pytest.raises(ReplayError, match="not the view that the teacher saw") as caught:
        replay(world)
    assert "the transform's code" in caught.value.fix


def test_another_library_than_the_dumps_is_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump(world, timm())
    expected = f"versions differ from the dump's: python was {platform.python_version()}, is 3.99; digests"
    monkeypatch.setattr(platform, "python_version", lambda: "3.99")
    assert replay(world)["digests_checked"] == 2 * 96
    assert expected in capsys.readouterr().err


def test_an_image_that_cannot_be_decoded_stays_a_hole(tmp_path: Path) -> None:
    draw_shards(tmp_path, 24, broken=[0])
    make_teacher(tmp_path)
    world = World(tmp_path)
    store = dump(world, SOUND["colour jitter"])
    assert [list(store.read_block(0, view).valid).count(False) for view in range(2)] == [1, 1]
    schedule = TRAINING["schedule"] | {"global_batch_size": 24}
    assert replay(world, schedule=schedule)["digests_checked"] == 2 * 23
