"""The numbers of a plan: at the paper's scale those that are published, in small those of real runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import NETWORK, SIZE, TRAINING, World
from tests.planning.plans import CONFIGS, assumptions, notes, plan_of, wrong
from tinyvit_kd.planning.chain import load_recipes
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.plan import Plan, make_plan
from tinyvit_kd.planning.stage_plan import StagePlan
from tinyvit_kd.runs.training_batches import open_training_batches
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

PAPER = ["dump/clip_vit_large_patch14_22k", "pretrain/tiny_vit_21m_22k", "finetune/tiny_vit_21m_22kto1k"]
NUMBERS = ("14.2M", "finetune:1281167", "evaluate:50k")


def plan_files(*names: str, overrides: tuple[str, ...] = (), **given: object) -> Plan:
    findings = Findings()
    recipes = load_recipes([CONFIGS / f"{name}.yaml" for name in names], overrides, findings)
    return make_plan(recipes, assumptions(**{"elsewhere": True, **given}), findings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan_files(*PAPER, samples=NUMBERS, sizes=("100k",), processes=8, on_gpu=True)


def test_the_recipes_of_the_paper_fit_together(paper: Plan) -> None:
    assert wrong(paper) == []
    assert "clip_vit_large_patch14_22k.pth is not there yet" in notes(paper)


def test_the_dump_of_the_paper_is_ninety_passes_of_its_teacher(paper: Plan) -> None:
    dump = paper.stages[0]
    assert dump.views == dump.teacher_passes == 14_200_000 * 90
    assert dump.decodes == 14_200_000 * 23  # four views from each decode
    assert dump.image_bytes == 14_200_000 * 23 * 100_000
    assert dump.store is not None
    assert round(dump.store.bytes / 2**30) == 196
    assert round(dump.store.raw_bytes / 2**30) == 481
    assert dump.network is not None
    assert dump.multiply_adds == dump.views * dump.network.multiply_adds
    assert dump.network.multiply_adds / 1e9 == pytest.approx(81, abs=1)


def test_the_students_epochs_fill_whole_steps(paper: Plan) -> None:
    trained = paper.stages[1]
    assert trained.steps == 90 * 3466
    assert trained.views == trained.steps * 4096
    assert trained.scored == 90 * 50_000
    assert trained.teacher_passes == 0
    assert trained.network is not None
    operations = (3 * trained.views + trained.scored) * trained.network.multiply_adds
    assert trained.multiply_adds == operations
    assert trained.store_bytes == pytest.approx(trained.views * 164.5)


def test_the_head_of_the_second_student_is_that_of_its_labels(paper: Plan) -> None:
    first, second = (stage.network for stage in paper.stages[1:])
    assert first is not None
    assert second is not None
    assert first.parameters - second.parameters == (21_841 - 1000) * (576 + 1)


PLANNED = [path for path in sorted(CONFIGS.rglob("*.yaml")) if "\nstage: contract\n" not in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("path", PLANNED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_shipped_recipe_can_be_planned_ahead(path: Path) -> None:
    name = str(path.relative_to(CONFIGS).with_suffix(""))
    plan = plan_files(name, samples=("50k", "evaluate:10k"))
    assert wrong(plan) == []
    (stage,) = plan.stages
    assert stage.samples in (50_000, 10_000)


def test_where_no_store_is_there_the_recipe_that_makes_it_says_what_it_will_be() -> None:
    stages = plan_files("laptop/pretrain", "laptop/dump", samples=("1000",)).stages
    assert [stage.stage for stage in stages] == ["dump-logits", "pretrain"]
    assert stages[1].views == 16 * 15 * 64


def test_a_plan_counts_what_a_run_does(world: World) -> None:
    trained, tuned = world.pretrain(), world.finetune()
    stages = plan_of(trained, tuned).stages
    results = pretrain(trained, solo_job()), finetune(tuned, solo_job())
    for stage, result, config in zip(stages, results, (trained, tuned), strict=True):
        assert stage.views == result["samples_seen"]
        assert stage.steps == result["step"]
        (largest, *_) = sorted(
            (path.stat().st_size for path in (Path(config.output) / "checkpoints").iterdir()), reverse=True
        )
        assert stage.checkpoint_bytes is not None
        assert 0.3 < stage.checkpoint_bytes / largest < 1.2  # tiny tensors have long names


def test_batches_take_the_memory_that_a_plan_says(world: World) -> None:
    runtime = {"workers": 3, "prefetch": 2}
    for config in (world.pretrain(runtime=runtime), world.finetune(runtime=runtime)):
        (stage,) = plan_of(config).stages
        layout = open_training_batches(config)._maker.layout
        assert stage.memory is not None
        assert stage.memory.batches == (3 * 2 + 2) * layout.nbytes


def test_a_store_that_is_there_is_not_made_again(world: World) -> None:
    whole = plan_of(world.dump())
    assert (whole.stages[0].views, whole.stages[0].decodes) == (0, 0)
    assert "6 of 6 blocks already" in notes(whole)
    for path in sorted(world.store.glob("s*/c.1.0.0"))[:2]:
        path.unlink()
    half = plan_of(world.dump()).stages[0]
    assert half.views == 80
    assert half.store is not None
    assert half.store.measured
    assert half.store.files == len([path for path in world.store.rglob("*") if path.is_file()]) + 2


def test_a_store_that_grows_is_planned_for_its_new_views_alone(world: World) -> None:
    grown = plan_of(world.dump(store={"path": str(world.store), "topk": 5, "views": 5})).stages[0]
    assert grown.views == 3 * 96
    assert wrong(plan_of(world.dump(store={"path": str(world.store), "topk": 5, "views": 5}))) == []


def test_nothing_is_written_by_a_plan(world: World) -> None:
    for index in world.shards.glob("*.idx.npz"):
        index.unlink()
    before = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")}
    plan = plan_of(world.dump(), world.pretrain(), world.finetune(), world.evaluate())
    assert {path: path.stat().st_mtime_ns for path in world.folder.rglob("*")} == before
    assert [stage.samples for stage in plan.stages] == [96] * 4
    assert "has not been indexed" in notes(plan)


def test_mixed_views_are_decoded_one_by_one_and_others_together() -> None:
    mixed, plain = (plan_files(name, samples=("10k",)).stages[0] for name in ("dump/regnety_160_1k", "laptop/dump"))
    assert mixed.decodes == mixed.views == 10_000 * 300
    assert (plain.decodes, plain.views) == (10_000 * 2, 10_000 * 8)


def test_frozen_bodies_and_recomputed_activations_change_the_operations(world: World) -> None:
    def stage_of(**sections: object) -> StagePlan:
        return plan_of(world.finetune(**sections)).stages[0]

    plain, frozen = stage_of(), stage_of(train={"trainable": "head"})
    assert plain.multiply_adds is not None
    assert frozen.multiply_adds == plain.multiply_adds / 3
    assert plain.memory is not None
    assert frozen.memory is not None
    assert frozen.memory.moments < plain.memory.moments


def test_a_plan_counts_each_epoch_at_its_size_and_memory_at_the_last(world: World) -> None:
    def stage_of(**sections: Any) -> StagePlan:
        (stage,) = plan_of(world.pretrain(**sections)).stages
        return stage

    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": 2 * SIZE}}
    small, large = (stage_of(student={"tiny_vit": NETWORK, "image_size": each}) for each in (SIZE, 2 * SIZE))
    growing = stage_of(student={"tiny_vit": NETWORK, "image_size": {0: SIZE, 1: 2 * SIZE}})
    assert small == stage_of()
    assert small.multiply_adds is not None
    assert large.multiply_adds is not None
    assert growing.multiply_adds == pytest.approx((small.multiply_adds + large.multiply_adds) / 2)
    assert growing.memory == large.memory
    assert growing.memory is not None
    assert small.memory is not None
    assert growing.memory.batches == small.memory.batches
    assert growing.work is not None
    assert small.work is not None
    assert (growing.work.views, growing.size) == (small.work.views, SIZE)
    assert small.work.student / 2 < growing.work.student < small.work.student  # in views of the last size
    student = {"tiny_vit": NETWORK, "image_size": {0: SIZE, 1: 2 * SIZE}}
    assert wrong(plan_of(world.pretrain(student=student, eval=evaluation))) == []
    mixer = {"name": "mixer_s16_224", "image_size": {0: SIZE, 1: 2 * SIZE}}
    (problem,) = wrong(plan_of(world.pretrain(student=mixer)))
    assert "does not take images of this size" in problem


def test_moments_are_those_of_the_optimiser(world: World) -> None:
    sizes = {}
    for name in ("adamw", "sgd", "adan"):
        (stage,) = plan_of(world.pretrain(optim=TRAINING["optim"] | {"name": name})).stages
        assert stage.memory is not None
        sizes[name] = stage.memory.moments
    assert (sizes["adamw"], sizes["adan"]) == (2 * sizes["sgd"], 4 * sizes["sgd"])
