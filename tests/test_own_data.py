"""The recipes for images of one's own: those of a size fit together, and say what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.planning.plans import assumptions, wrong
from tests.published import CONFIGS, load
from tinyvit_kd.data.order import check_lanes
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.chain import load_recipes
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.plan import Plan, make_plan
from tinyvit_kd.planning.store_sizes import store_size

OWN = CONFIGS / "own"
EACH_SIZE = pytest.mark.parametrize("size", [32, 64, 224])
IMAGES = 10_000


def of_size(size: int) -> dict[str, Any]:
    """The recipes of a size, by what they are for."""
    return {path.stem.removesuffix(f"_{size}"): load(path) for path in sorted(OWN.glob(f"*_{size}.yaml"))}


def views_of(recipe: Any) -> Iterator[int]:
    """The sides of all views that a recipe speaks of."""
    for section in (recipe, getattr(recipe, "eval", None)):
        views = getattr(section, "views", None)
        if views is not None:
            yield views.size


@EACH_SIZE
def test_recipes_of_a_size_fit_together(size: int) -> None:
    recipes = of_size(size)
    dump, pretrain, finetune = (recipes[name] for name in ("dump", "pretrain", "finetune"))
    assert {each for recipe in recipes.values() for each in views_of(recipe)} == {size}
    assert {(recipe.shards.path, recipe.shards.split) for recipe in recipes.values()} == {("shards", "train")}
    assert pretrain.store.path == dump.store.path
    assert pretrain.schedule.epochs == 3 * dump.store.views
    assert finetune.student.init_from == pretrain.output
    if "teacher" in recipes:
        assert dump.teacher.checkpoint == recipes["teacher"].output
    assert len({recipe.output for recipe in recipes.values() if recipe is not dump}) == len(recipes) - 1
    for name in recipes.keys() - {"dump"}:
        schedule = recipes[name].schedule
        for processes in (1, 2, 8):
            check_lanes(schedule.lanes, schedule.global_batch_size, processes, schedule.views_per_sample)


def planned(size: int, *overrides: str) -> Plan:
    """A plan of all recipes of a size, in their order, on a machine that has nothing yet."""
    names = [name for name in ("teacher", "dump", "pretrain", "finetune") if name in of_size(size)]
    findings = Findings()
    recipes = load_recipes([OWN / f"{name}_{size}.yaml" for name in names], overrides, findings)
    return make_plan(recipes, assumptions(elsewhere=True, samples=(str(IMAGES), "evaluate:1000")), findings)


@EACH_SIZE
def test_recipes_of_a_size_can_be_planned_as_one(size: int) -> None:
    plan = planned(size, "num_classes=10")
    assert wrong(plan) == []
    stages = {stage.stage: stage for stage in plan.stages}
    assert stages["dump-logits"].views == 10 * IMAGES
    assert stages["pretrain"].views == 30 * (IMAGES // 256) * 256
    assert all(stage.network is not None for stage in plan.stages)


@EACH_SIZE
def test_recipes_of_a_size_fit_before_anybody_knows_the_classes(size: int) -> None:
    assert wrong(planned(size)) == []


@pytest.mark.parametrize("path", sorted(OWN.glob("dump_*.yaml")), ids=lambda path: path.stem)
def test_a_dump_tells_the_bytes_of_its_store(path: Path) -> None:
    told = re.search(r"reckoned: (\d+) MiB for ([\d,]+) images", path.read_text())
    assert told is not None
    mib, images = (int(each.replace(",", "")) for each in told.groups())
    store = load(path).store
    num_classes = {10: 10, 100: 11_821}[store.topk]  # of one's own; of timm's list imagenet12k
    size = store_size([images], store.views, store.encoding, store.topk, num_classes)
    assert size.bytes / 2**20 == pytest.approx(mib, rel=0.02)


@pytest.mark.parametrize("size", [32, 64])
def test_windows_cover_the_maps_of_a_small_student(size: int) -> None:
    student = of_size(size)["pretrain"].student
    network = build_network(student, 10, size).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 10)
    maps = [size // 8, size // 16, size // 32]
    assert student.tiny_vit is not None
    assert all(window >= side for window, side in zip(student.tiny_vit.window_sizes[1:], maps, strict=True))
