"""Runs that read their shards through a bounded cache make what they make from the disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import TRAINING, World, make_teacher
from tests.models.weights import assert_same_weights
from tests.storage.s3 import BUCKET, S3Server, every
from tinyvit_kd.batches.shard_uses import PlannedUses
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.synthetic import write_image_folder
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.open import open_storage

SCHEDULE = TRAINING["schedule"] | {"epochs": 2, "lanes": 1, "global_batch_size": 8}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of twelve shards, with what came of it from the disk."""
    folder = tmp_path_factory.mktemp("many")
    write_image_folder(folder / "images", 96, 0)
    rules = SourceRules(empty_classes="leave-out", folders_are_classes=True)
    build_shards(folder / "images", folder / "shards", "train", samples_per_shard=8, seed=0, processes=1, rules=rules)
    make_teacher(folder)
    world = World(folder)
    dump_logits(world.dump(), solo_job())
    pretrain(world.pretrain(schedule=SCHEDULE), solo_job())
    return world


def cached(world: World, folder: Path, shards: float, path: str | None = None) -> dict[str, Any]:
    """The section of a recipe for shards behind a cache with room for so many."""
    largest = max(path.stat().st_size for path in world.shards.glob("*.tar"))
    return {
        "path": path or str(world.shards),
        "split": "train",
        "cache_dir": str(folder / "cache"),
        "cache_gib": shards * largest / 2**30,
        "cache_local": path is None,
    }


def logged(run: Path) -> dict[str, float]:
    """The sums of what a run logged of its cache."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line if name.startswith("cache_")}
    return {name: sum(line.get(name, 0) for line in lines) for name in names}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_student_is_the_same_through_a_cache_that_cannot_hold_its_shards(
    many: World, tmp_path: Path, workers: int
) -> None:
    shards = cached(many, tmp_path, 9)
    output = tmp_path / "run"
    runtime = {"workers": workers, "prefetch": 1}
    pretrain(many.pretrain(schedule=SCHEDULE, shards=shards, output=str(output), runtime=runtime), solo_job())
    assert_same_weights(many.folder / "distilled", output)
    figures = logged(output)
    assert figures["cache_fetched_mib"] > 0
    assert figures["cache_evicted_mib"] > 0
    assert figures["cache_hits"] + figures["cache_waits"] > 0
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.tar"))
    assert kept <= shards["cache_gib"] * 2**30


def test_a_store_is_the_same_through_a_cache(many: World, tmp_path: Path) -> None:
    store = many.dump().store.model_dump() | {"path": str(tmp_path / "store")}
    dump_logits(many.dump(shards=cached(many, tmp_path, 3), store=store), solo_job())
    assert not store_differences(many.folder / "store", tmp_path / "store")


def test_scores_are_the_same_through_a_cache(many: World, tmp_path: Path) -> None:
    scores = evaluate(many.evaluate(), solo_job())
    assert evaluate(many.evaluate(shards=cached(many, tmp_path, 3)), solo_job()) == scores


def test_a_run_from_a_bucket_is_the_same_in_spite_of_faults(many: World, tmp_path: Path, s3: S3Server) -> None:
    bucket = open_storage(f"s3://{BUCKET}/many")
    for path in many.shards.iterdir():
        if path.suffix in (".tar", ".json", ".txt"):
            bucket.upload(path, path.name)
    s3.faults.choose = every(s503=9, cut=11)
    shards = cached(many, tmp_path, 8, f"s3://{BUCKET}/many")
    pretrain(many.pretrain(schedule=SCHEDULE, shards=shards, output=str(tmp_path / "run")), solo_job())
    assert s3.faults.made
    assert_same_weights(many.folder / "distilled", tmp_path / "run")


def test_too_little_room_is_refused_with_what_is_needed(many: World, tmp_path: Path) -> None:
    shards = cached(many, tmp_path, 0.5)
    with pytest.raises(ConfigError, match="no room") as told:
        pretrain(many.pretrain(schedule=SCHEDULE, shards=shards, output=str(tmp_path / "run")), solo_job())
    assert told.value.where == "shards.cache_gib"
    advised = float(told.value.fix.split("cache_gib to ")[1].split()[0])
    shards["cache_gib"] = advised
    pretrain(many.pretrain(schedule=SCHEDULE, shards=shards, output=str(tmp_path / "run")), solo_job())


@pytest.mark.parametrize("pairs_seed", [None, 5])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_shard_of_a_batch_is_among_the_uses_of_its_step(pairs_seed: int | None, ranks: int) -> None:
    lengths = (5, 9, 0, 7, 12, 3, 8, 1, 6, 11)
    schedule = ScheduleConfig(epochs=2, global_batch_size=8, lanes=4, window=6)
    for rank in range(ranks):
        plan = StepPlan(lengths, schedule, rank_lanes(4, rank, ranks), pairs_seed)
        steps = range(3, 2 * plan.steps_per_epoch)
        uses = list(PlannedUses(plan, [str(shard) for shard in range(len(lengths))], steps, range(4)))
        assert all(one.first <= other.first for one, other in pairwise(uses))
        for step in steps:
            _, shards, _ = plan.samples(step)
            at_once = {use.location for use in uses if use.first <= step <= use.last}
            assert {str(shard) for shard in shards.tolist()} <= at_once


def test_the_next_use_of_a_shard_is_looked_for_until_the_next_epoch_ends() -> None:
    plan = StepPlan((8,) * 6, ScheduleConfig(epochs=3, global_batch_size=4, lanes=2, window=8), range(2))
    steps = range(3 * plan.steps_per_epoch)
    uses = PlannedUses(plan, list("abcdef"), steps, range(2))
    for location in "abcdef":
        own = [use for use in uses if use.location == location]
        for step in range(2 * plan.steps_per_epoch):
            expected = min(max(use.first, step) for use in own if use.last >= step)
            assert uses.next_use(location, step) == expected
