"""Rates are those of real views, networks and blocks, and measuring them leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.tiny_world import World
from tests.planning.plans import plan_of, wrong
from tinyvit_kd.planning.measuring import stopwatch
from tinyvit_kd.planning.measuring.rates import measure


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stopwatch, "_SECONDS", 0.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_each_part_of_each_stage_is_measured(world: World) -> None:
    mixed = {"size": 16, "mixup": 0.8}
    new = {"path": str(world.folder / "new"), "topk": 5, "views": 2}
    plan = plan_of(world.dump(store=new, views=mixed), world.pretrain(store={"path": new["path"]}), world.finetune())
    rates = list(measure(plan).rates.values())
    assert [sorted(each) for each in rates] == [
        ["teacher", "views", "write"],
        ["student", "views"],
        ["student", "views"],
    ]
    assert all(rate > 0 for each in rates for rate in each.values())
    assert wrong(plan) == []


def test_measuring_writes_only_temporary_files_and_removes_them(world: World, tmp_path: Path) -> None:
    for index in world.shards.glob("*.idx.npz"):
        index.unlink()
    before = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")}
    measure(plan_of(world.dump(), world.finetune()))
    assert {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")} == before
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_images_networks_are_measured_alone(world: World) -> None:
    nowhere = {"path": str(world.folder / "to-come")}
    dump = world.dump(shards=nowhere, store={"path": str(world.folder / "new"), "topk": 5, "views": 2})
    (rates,) = measure(plan_of(dump, samples=("1000",))).rates.values()
    assert sorted(rates) == ["teacher", "write"]


def test_a_wrong_recipe_is_not_measured_beyond_what_is_known_of_it(world: World) -> None:
    plan = plan_of(world.finetune(student={"name": "no_such_network"}))
    assert [sorted(each) for each in measure(plan).rates.values()] == [["views"]]


def test_a_median_is_of_several_rounds() -> None:
    rate = stopwatch.rate_of(lambda: None, 10)
    assert rate.rounds == 3
    assert rate.batch == 10
    assert rate.per_second > 1000
