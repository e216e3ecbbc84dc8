"""The benchmark of accuracy: that its set of runs is fair, and that its tables say what the figures do."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import distillation
from benchmarks.ablation_tables import signed, spread, tables
from benchmarks.ablations import ABLATIONS, BASE, DEIT_BASE, Ablation, Bench
from benchmarks.run_differences import differences
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.teacher_in_loop import AskingObjective
from benchmarks.tiny_world import draw_shards
from benchmarks.training_runs import pretrain_config
from tinyvit_kd.batches.labelled_batches import LabelledBatches
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.training import DistillLossConfig, ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model
from tinyvit_kd.models.teacher import Teacher, TeacherFacts, topk_probs
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.batch import Batch, SparseTargets
from tinyvit_kd.training.objectives import DistillObjective

BENCH = Bench(Path("shards"), Path("out"), shard_count=2, epochs=12, job=solo_job())
SHARDS = (5000, 5000)
NAMES = [row.name for row in ABLATIONS]


def schedule(row: Ablation) -> ScheduleConfig:
    return ScheduleConfig.model_validate(BENCH.recipe(row, 0)["schedule"])


@pytest.mark.parametrize("row", ABLATIONS, ids=NAMES)
def test_a_row_changes_one_thing_of_its_base(row: Ablation) -> None:
    base = DEIT_BASE if row.student == DEIT_BASE.student else BASE
    told, theirs = asdict(row), asdict(base)
    changed = {name for name in told if told[name] != theirs[name]} - {"what", "value"}
    assert len(changed - {"alpha"}) <= 1
    assert changed or row == base


@pytest.mark.parametrize("row", ABLATIONS, ids=NAMES)
def test_a_row_takes_as_many_steps_on_as_many_samples(row: Ablation) -> None:
    given = schedule(row)
    plan = StepPlan(SHARDS, given, range(given.lanes))
    assert plan.steps_per_epoch * given.epochs == 12 * 39
    assert given.warmup_epochs * plan.steps_per_epoch == 39 / 2


@pytest.mark.parametrize("row", [row for row in ABLATIONS if row.targets != "labels"], ids=lambda row: row.name)
def test_a_row_is_a_recipe_of_stage_two(row: Ablation) -> None:
    config = pretrain_config(BENCH.distilled(row, 0))
    assert config.loss.uses_labels == ("labels" in row.value)
    assert config.store.views == row.views


def test_labels_alone_see_the_views_that_distillation_sees(tmp_path: Path) -> None:
    shards = ShardSet.load(draw_shards(tmp_path, samples=16))
    spec = ViewSpec(size=8)
    stored = stored_batches(shards, made_up_store(tmp_path / "store", shards, spec, 2, 24, views=3), batch=8, lanes=2)
    labelled = LabelledBatches(SampleViews(shards.reader(), spec, 0), "error", replace(stored.plan, stored=None))
    for step in range(3 * stored.plan.steps_per_epoch):
        views = []
        for batches in (stored, labelled):
            arrays = {name: np.zeros(shape, kind) for name, (shape, kind) in batches.layout.fields.items()}
            batches.fill(step, arrays)
            views.append(arrays["views"])
        assert np.array_equal(views[0], views[1])


def test_rows_have_folders_of_their_own_and_share_stores_of_the_same_views_and_classes() -> None:
    assert len({BENCH.folder(row, seed) for row in ABLATIONS for seed in (0, 1)}) == 2 * len(ABLATIONS)
    stores: dict[Any, set[Any]] = {}
    for row in ABLATIONS:
        if row.targets != "labels":
            stores.setdefault(BENCH.store(row, 0)["path"], set()).add((row.topk, row.mixes))
    assert all(len(kinds) == 1 for kinds in stores.values())
    assert len(stores) == 4


def test_differences_are_taken_seed_by_seed() -> None:
    own, base = {"0": 52.0, "1": 55.0, "2": 50.0}, {"0": 50.0, "1": 52.0, "2": 49.0, "3": 0.0}
    assert signed(own, base) == f"+2.00 ± {1 / math.sqrt(3):.2f}"  # 2, 3 and 1: a deviation of 1
    assert signed({"0": 1.0}, {"0": 2.5}) == "-1.50"
    assert spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"


def test_tables_tell_what_was_measured() -> None:
    def row(student: str, what: str, value: str, **found: list[float]) -> dict[str, Any]:
        count = len(found["top1"])
        seeds = {str(seed): {name: each[seed] for name, each in found.items()} for seed in range(count)}
        return {"student": student, "what": what, "value": value, "seeds": seeds}

    rows = [row("TinyViT", "base", "soft", top1=[50.0, 52.0]), row("TinyViT", "K", "1", top1=[51.0, 51.0])]
    rows += [row("TinyViT", "K", "3", top1=[]), row("DeiT", "base", "soft", top1=[40.0, 40.0])]
    heads = {"top1_head": [41.0, 41.0], "top1_head_dist": [42.0, 42.0]}
    rows += [row("DeiT", "targets", "token", top1=[43.0, 45.0], **heads)]
    apart = {"0": dict.fromkeys(("weights", "first_loss", "last_loss", "largest_loss"), 0.5)}
    lines = tables({"rows": rows, "online_and_stored": apart}).splitlines()
    assert "| base | soft | 51.00 ± 1.41 | 50.00, 52.00 | – |" in lines
    assert "| K | 1 | 51.00 ± 0.00 | 51.00, 51.00 | +0.00 ± 1.00 |" in lines
    assert "| targets | token | 44.00 ± 1.41 | 43.00, 45.00 | +4.00 ± 1.00 |" in lines
    assert "| DeiT, token | 44.00 ± 1.41 | 41.00 ± 0.00 | 42.00 ± 0.00 |" in lines
    assert "| seed 0 | 5.0e-01 | 5.0e-01 | 5.0e-01 | 5.0e-01 |" in lines
    assert not any("| 3 |" in line for line in lines)  # a row without a seed so far


def test_runs_are_apart_by_weights_and_by_losses(tmp_path: Path) -> None:
    card = ModelCard(architecture={"name": "resnet10t"}, num_classes=2, image_size=8, mean=(0, 0, 0), std=(1, 1, 1))
    for name, weights, losses in (("a", [3.0, 5.0], [2.0, 9.0, 1.1]), ("b", [3.0, 4.0], [2.0, 4.0, 1.0])):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / MODEL, {"w": torch.tensor(weights)}, card)
        lines = [{"kind": "train", "step": step, "loss": loss} for step, loss in zip((1, 2, 2), losses, strict=True)]
        text = "\n".join(map(json.dumps, [*lines, {"kind": "eval", "step": 2, "top1": 1.0}]))
        (tmp_path / name / "metrics.jsonl").write_text(text + "\n")
    found = differences(tmp_path / "a", tmp_path / "b")
    assert found == pytest.approx({"weights": 0.2, "first_loss": 0, "last_loss": 0.1, "largest_loss": 0.1})


def test_a_teacher_in_the_loop_gives_the_targets_that_a_store_of_all_classes_has() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6))
    facts = TeacherFacts(name="linear", num_classes=6, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    teacher = Teacher(network, facts, torch.device("cpu"), "float32")
    draw = np.random.default_rng(0)
    views = torch.from_numpy(draw.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8))
    student_logits = torch.from_numpy(draw.normal(size=(4, 6)).astype(np.float32)).requires_grad_()
    objective = DistillObjective(DistillLossConfig())
    wrong = SparseTargets(torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1), torch.zeros(4))
    stored = Batch(views, torch.ones(4), None, SparseTargets(*topk_probs(teacher(views), 6)))
    asked = AskingObjective(objective, teacher)(student_logits, stored._replace(targets=wrong))
    told = objective(student_logits, stored)
    assert asked["loss"].item() == pytest.approx(told["loss"].item(), rel=1e-6)
    asked["loss"].backward()  # type: ignore[no-untyped-call]
    assert student_logits.grad is not None


def test_arguments_fit_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--data", "d", "--out", "o"]
    assert distillation.parse(given).epochs == 4
    assert distillation.parse([*given, "--ablations"]).epochs == 12
    with pytest.raises(SystemExit):
        distillation.parse([*given, "--ablations", "--epochs", "6"])
    assert "multiple of 4" in capsys.readouterr().err
