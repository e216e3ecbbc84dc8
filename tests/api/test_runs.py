"""Recipes, students and batches are the same as those of the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tinyvit_kd
from benchmarks.tiny_world import MIXED, SIZE, World
from tests.api.world import shards_of
from tests.conftest import REPOSITORY
from tests.data import tars
from tinyvit_kd.api.samples import Sample
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import STAGE_CONFIGS, FinetuneConfig, PretrainConfig
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.errors import BadImageError, CheckpointError, ConfigError, ShardError, StoreError
from tinyvit_kd.runs.labelled_data import open_labelled_data
from tinyvit_kd.runs.stored_data import StoredData, open_stored_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runs.training_data import TrainingData
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.objectives import Objective, Output

SQUASHED = {"size": SIZE, "mode": "squash", "interpolation": "bilinear"}


@dataclass(frozen=True)
class Recording:
    """An objective that keeps the batches that it is called with."""

    objective: Objective
    batches: list[Batch] = field(default_factory=list)

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        self.batches.append(batch.clone())
        return self.objective(output, batch)


def _pretraining(world: World, output: Path) -> PretrainConfig:
    schedule = {"epochs": 2, "global_batch_size": 16, "lanes": 4, "window": 8, "views_per_sample": 2}
    return world.pretrain(output=str(output), loss={"alpha": 0.5}, schedule=schedule)


def _finetuning(world: World, output: Path) -> FinetuneConfig:
    return world.finetune(output=str(output), views=MIXED)


@pytest.mark.parametrize("recipe", [_pretraining, _finetuning])
def test_batches_are_those_that_training_sees(
    mixed: World, tmp_path: Path, recipe: Callable[[World, Path], PretrainConfig | FinetuneConfig]
) -> None:
    config = recipe(mixed, tmp_path / "run")
    data: TrainingData = (
        open_stored_data(config, solo_job())
        if isinstance(config, PretrainConfig)
        else open_labelled_data(config, solo_job())
    )
    recording = Recording(data.objective)
    train_student(config, replace(data, objective=recording), solo_job())
    batches = tinyvit_kd.open_batches(recipe(mixed, tmp_path / "another"))
    assert len(batches) == len(recording.batches) == 2 * batches.steps_per_epoch
    for seen, found in zip(recording.batches, batches, strict=True):
        assert _same(seen, found)
    for workers in (0, 1):
        for seen, found in zip(recording.batches[3:8], list(batches.iterate(3, 8, workers)), strict=True):
            assert _same(seen, found)
    assert _same(recording.batches[-1], batches[-1])
    assert not (tmp_path / "another").exists()
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_batches_of_several_workers_have_blocks_for_all_that_these_work_on(mixed: World, tmp_path: Path) -> None:
    """However many the recipe has: two workers of four batches each may be eight batches apart."""
    asked: list[int] = []

    class Noting(StoredData):
        def batch_maker(self, plan: StepPlan, steps: int = 1) -> StoredBatches:
            asked.append(steps)
            return super().batch_maker(plan, steps)

    config = _pretraining(mixed, tmp_path / "run")
    opened = tinyvit_kd.open_batches(config)
    noting = Noting(**{each.name: getattr(opened.data, each.name) for each in fields(opened.data)})
    batches = replace(opened, data=noting)
    for workers in (1, 2):
        assert len(list(batches.iterate(0, 2, workers))) == 2
    assert _same(batches[0], opened[0])
    assert asked == [1, 2 * config.runtime.prefetch, 1]


def _same(one: Batch, other: Batch) -> bool:
    left, right = (
        [each.views, each.weights, each.labels, *(each.targets or ()), *(each.mixed or ())] for each in (one, other)
    )
    return one.checked == other.checked and all(map(torch.equal, left, right))


def test_rows_name_the_views_of_a_batch(mixed: World, tmp_path: Path) -> None:
    shards, store = shards_of(mixed), tinyvit_kd.open_store(mixed.folder / "store")
    finetuning = _finetuning(mixed, tmp_path)
    for config, source in ((_pretraining(mixed, tmp_path), store), (finetuning, finetuning.views)):
        batches = tinyvit_kd.open_batches(config)
        for step in (0, batches.steps_per_epoch + 1):
            batch, rows = batches[step], batches.rows(step)
            assert rows.epoch == step // batches.steps_per_epoch
            places = zip(rows.shards.tolist(), rows.indexes.tolist(), rows.views.tolist(), strict=True)
            for row, (shard, index, view) in enumerate(places):
                if batch.weights[row]:
                    expected = tinyvit_kd.view_image(shards, source, shard, index, view)
                    assert np.array_equal(batch.views[row], expected)


def test_a_student_scores_by_hand_as_the_command_scores_it(plain: World) -> None:
    scores = evaluate(plain.evaluate(model=str(plain.folder / "teacher")), solo_job())
    shards, student = shards_of(plain), tinyvit_kd.open_student(plain.folder / "teacher")
    assert not student.network.training
    right = []
    for sample in tinyvit_kd.iterate_samples(shards):
        try:
            view = tinyvit_kd.view_image(shards, student.card.eval_views, sample.shard, sample.index)
        except BadImageError:
            continue
        with torch.inference_mode():
            logits = student.network(student.normalize(torch.from_numpy(view).unsqueeze(0)))
        right.append(logits.argmax().item() == sample.label)
    assert len(right) == scores["samples"] == 96
    assert 100 * sum(right) / len(right) == pytest.approx(scores["top1"])


def test_a_student_predicts_images_as_it_was_scored(plain: World, tmp_path: Path) -> None:
    evaluation = {"shards": {"path": str(plain.shards), "split": "train"}, "views": SQUASHED}
    trained = finetune(plain.finetune(output=str(tmp_path / "squashed"), eval=evaluation), solo_job())
    shards, student = shards_of(plain), tinyvit_kd.open_student(tmp_path / "squashed")
    samples = [sample for sample in tinyvit_kd.iterate_samples(shards) if decodes(sample)]
    probs = student.predict([sample.image_bytes for sample in samples])
    assert probs.sum(dim=1).numpy() == pytest.approx(np.ones(96), abs=1e-5)
    right = [best == sample.label for best, sample in zip(probs.argmax(dim=1).tolist(), samples, strict=True)]
    assert 100 * sum(right) / 96 == pytest.approx(trained["top1"])
    whole = tinyvit_kd.EvalViewSpec.model_validate(SQUASHED)
    assert np.array_equal(student.view(samples[0].image_bytes), tinyvit_kd.view_image(shards, whole, 0, 0))
    (tmp_path / "first.jpg").write_bytes(samples[0].image_bytes)
    assert torch.equal(student.predict([tmp_path / "first.jpg"]), student.predict([samples[0].image_bytes]))


def test_an_image_that_cannot_be_predicted_is_named(plain: World, tmp_path: Path) -> None:
    student = tinyvit_kd.open_student(plain.folder / "teacher")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"broken\.jpg"):
        student.predict([tmp_path / "broken.jpg"])
    with pytest.raises(ConfigError, match=r"cannot read an image.*absent\.jpg"):
        student.predict([tmp_path / "absent.jpg"])


def decodes(sample: Sample) -> bool:
    try:
        return sample.image is not None
    except BadImageError:
        return False


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_any_stage_is_read(path: Path) -> None:
    recipe = tinyvit_kd.load_recipe(path)
    assert type(recipe) is STAGE_CONFIGS[recipe.stage]


def test_a_recipe_is_changed_as_on_the_command_line(plain: World, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(dump_yaml(plain.pretrain()))
    recipe = tinyvit_kd.load_recipe(tmp_path / "recipe.yaml", "optim.base_lr=1e-3", "schedule.epochs=5")
    assert isinstance(recipe, PretrainConfig)
    assert (recipe.optim.base_lr, recipe.schedule.epochs) == (1e-3, 5)
    with pytest.raises(ConfigError, match="did you mean"):
        tinyvit_kd.load_recipe(tmp_path / "recipe.yaml", "optim.bas_lr=1e-3")


@pytest.mark.parametrize("text", ["shards: {}", "stage: distil", "stage: [pretrain]"])
def test_a_recipe_without_a_known_stage_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError, match="does not name a stage"):
        tinyvit_kd.load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_strings(plain: World, tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    recipe = tmp_path / "pretrain.yaml"
    recipe.write_text(dump_yaml(plain.pretrain()))
    shards = tinyvit_kd.open_shards(kind(plain.folder / "shards"), index_dir=kind(tmp_path), cache_dir=kind(tmp_path))
    assert shards.total == 97
    assert len(shards.key_hashes()) == len(list(tmp_path.glob("*.idx.npz")))
    assert tinyvit_kd.open_store(kind(plain.folder / "store")).complete_views() == 2
    for path in (plain.folder / "teacher", plain.folder / "teacher" / "model.safetensors"):
        assert tinyvit_kd.open_student(kind(path)).card.num_classes == len(DRAWN_CLASSES)
    assert tinyvit_kd.load_recipe(kind(recipe)) == plain.pretrain()
    assert len(tinyvit_kd.open_batches(kind(recipe))) == 12


def test_copies_of_shards_are_kept_as_in_a_recipe(plain: World, tmp_path: Path) -> None:
    largest = max(path.stat().st_size for path in (plain.folder / "shards").glob("*.tar"))
    shards = tinyvit_kd.open_shards(
        plain.folder / "shards", cache_dir=tmp_path, cache_gib=1.5 * largest / 2**30, cache_local=True
    )
    for shard in range(3):
        tinyvit_kd.read_sample(shards, shard, 0)
        assert len(list(tmp_path.glob("*.tar"))) == (1 if shard < 2 else 2), "the last one is small"


def test_mistakes_are_the_package_s_errors(plain: World, tmp_path: Path) -> None:
    shards, store = shards_of(plain), tinyvit_kd.open_store(plain.folder / "store")
    mistakes: list[tuple[type[tinyvit_kd.TinyVitKdError], Callable[[], object]]] = [
        (ShardError, lambda: tinyvit_kd.open_shards(tmp_path / "none")),
        (ConfigError, lambda: tinyvit_kd.open_shards(plain.folder / "shards", "test")),
        (ConfigError, lambda: tinyvit_kd.open_shards(plain.folder / "shards", cache_gib=1)),
        (ConfigError, lambda: tinyvit_kd.open_shards(plain.folder / "shards", cache_local=True)),
        (ConfigError, lambda: tinyvit_kd.open_shards(plain.folder / "shards", cache_dir=tmp_path, cache_gib=0)),
        (StoreError, lambda: tinyvit_kd.open_store(str(tmp_path / "none"))),
        (CheckpointError, lambda: tinyvit_kd.open_student(str(tmp_path / "none"))),
        (ConfigError, lambda: tinyvit_kd.load_recipe(str(tmp_path / "none.yaml"))),
        (ConfigError, lambda: tinyvit_kd.open_batches(plain.evaluate())),
        (ConfigError, lambda: tinyvit_kd.read_sample(shards, 3, 0)),
        (ConfigError, lambda: tinyvit_kd.read_sample(shards, -1, 0)),
        (ConfigError, lambda: tinyvit_kd.read_sample(shards, 2, 17)),
        (ConfigError, lambda: list(tinyvit_kd.iterate_samples(shards, 3))),
        (ShardError, lambda: tinyvit_kd.find_sample(shards, "none")),
        (ConfigError, lambda: tinyvit_kd.records(store, 3, 0)),
        (ConfigError, lambda: tinyvit_kd.records(store, 2, 0, [0, -1])),
        (ConfigError, lambda: tinyvit_kd.records(store, 0, 2)),
        (ConfigError, lambda: tinyvit_kd.dense(tinyvit_kd.records(store, 0, 0), 4)),
        (ConfigError, lambda: tinyvit_kd.dense(tinyvit_kd.records(store, 0, 0), 12)),
        (ConfigError, lambda: tinyvit_kd.view_image(shards, store, 0, 40)),
    ]
    for kind, mistake in mistakes:
        with pytest.raises(kind):
            mistake()


def test_a_set_that_has_lost_samples_says_so_when_it_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tars.write_tar(tmp_path / "a.tar", [*tars.sample("0", 1), ("1.cls", b"1")])
    assert tinyvit_kd.open_shards(tmp_path / "a.tar").total == 1
    assert "samples are lost: 1 of 2 (50.00%)" in capsys.readouterr().err
