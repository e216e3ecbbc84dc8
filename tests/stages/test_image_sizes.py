"""Students whose images have another size than the views, or one that grows over the epochs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.tiny_world import NETWORK, SIZE, TRAINING, World
from tests.models.weights import assert_same_weights, changed
from tinyvit_kd.config.load import dump_yaml, load_recipe
from tinyvit_kd.config.recipes import FinetuneConfig
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.training import loop

TINY_VIT: dict[str, Any] = {"tiny_vit": NETWORK}
DEIT: dict[str, Any] = {
    "name": "deit_tiny_patch16_224",
    "kwargs": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
}
LARGER = 2 * SIZE
GROWING = {0: SIZE // 2, 1: LARGER}


def step_sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sides of what each step's network and objective are given, from now on."""
    seen = []
    step = loop.train_step

    def noted(run: Any, state: Any, forward: Any, batch: Any, objective: Any) -> Any:
        seen.append((batch.views.shape[-1], run.sizes(batch.views, state.step).shape[-1]))
        return step(run, state, forward, batch, objective)

    monkeypatch.setattr(loop, "train_step", noted)
    return seen


@pytest.mark.parametrize("student", [TINY_VIT, DEIT], ids=["tiny_vit", "deit"])
def test_a_run_that_is_killed_where_its_size_changes_ends_as_one_that_was_left_alone(
    world: World, student: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = step_sizes(monkeypatch)
    sections = {"student": student | {"image_size": GROWING}, "train": TRAINING["train"] | {"checkpoint_every": 6}}
    whole = pretrain(world.pretrain(**sections), solo_job())
    assert seen == [(SIZE, SIZE // 2)] * 6 + [(SIZE, LARGER)] * 6
    assert whole["digests_checked"] == 2 * 96
    again = world.pretrain(**sections, output=str(world.folder / "again"))
    pretrain(again, solo_job())
    for path in (world.folder / "again" / "model.safetensors", world.folder / "again" / "summary.json"):
        path.unlink()
    sorted((world.folder / "again" / "checkpoints").glob("*.pt"))[-1].unlink()
    del seen[:]
    pretrain(again, solo_job())  # from step 6 of 12, the first of the second epoch
    assert seen == [(SIZE, LARGER)] * 6
    assert_same_weights(world.folder / "distilled", world.folder / "again")


@pytest.mark.parametrize("student", [TINY_VIT, DEIT], ids=["tiny_vit", "deit"])
def test_the_model_is_that_of_the_last_size_and_is_scored_at_it(world: World, student: dict[str, Any]) -> None:
    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": LARGER}}
    trained = pretrain(world.pretrain(student=student | {"image_size": GROWING}, eval=evaluation), solo_job())
    card = load_model_file(world.folder / "distilled")[1]
    assert card is not None
    assert card.image_size == LARGER
    assert "dynamic_img_size" not in json.dumps(card.architecture)
    scored = evaluate(world.evaluate(views={"size": LARGER}), solo_job())
    assert scored["top1"] == trained["top1"]
    # Another training starts from it at another size, as from any model.
    finetune(world.finetune(student={"init_from": str(world.folder / "distilled")}), solo_job())


def test_the_size_of_the_views_changes_no_bit_and_another_one_does(world: World) -> None:
    runs = {"none": None, "views": SIZE, "other": LARGER}
    for name, size in runs.items():
        student = TINY_VIT if size is None else TINY_VIT | {"image_size": size}
        pretrain(world.pretrain(student=student, output=str(world.folder / name)), solo_job())
    files = [(world.folder / name / "model.safetensors").read_bytes() for name in ("none", "views")]
    assert files[0] == files[1]
    assert changed(world.folder / "none", world.folder / "other")


def test_micro_batches_are_resized_as_whole_batches_are(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    halves = TRAINING["schedule"] | {"micro_batch_size": 8}
    finetune(world.finetune(student=DEIT | {"image_size": GROWING}, schedule=halves), solo_job())
    told = capsys.readouterr().err
    assert f"{SIZE // 2} pixels, {LARGER} from epoch 1 on, resized from views of {SIZE} (bicubic" in told
    assert f"images have {LARGER} pixels from step 6 on" in told


def test_a_run_is_not_continued_with_other_sizes(world: World) -> None:
    pretrain(world.pretrain(student=TINY_VIT | {"image_size": GROWING}), solo_job())
    (world.folder / "distilled" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"student\.image_size"):
        pretrain(world.pretrain(student=TINY_VIT | {"image_size": {0: SIZE, 1: LARGER}}), solo_job())


@pytest.mark.parametrize(
    ("student", "size", "told"),
    [
        (DEIT, {0: 12, 1: 16}, "12 x 12 pixels"),
        (DEIT, 20, "patches of 8 pixels leave 4 over"),
        (DEIT | {"kwargs": {"img_size": SIZE}}, LARGER, "built for images of another size"),
        ({"name": "mixer_s16_224"}, {0: SIZE, 1: LARGER}, f"{SIZE} x {SIZE} pixels, MlpMixer"),
    ],
    ids=["deit", "deit_off_its_patches", "deit_fixed", "mixer"],
)
def test_a_size_that_the_network_does_not_take_is_refused(
    world: World, student: dict[str, Any], size: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        finetune(world.finetune(student=student | {"image_size": size}), solo_job())


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ({1: 16, 2: 32}, "begins with epoch 0"),
        ({0: 16}, "two sizes or more"),
        ({0: 32, 1: 16}, "ascending order"),
        ({0: 16, 2: 32}, "from epoch 2 on, counted from 0, and schedule.epochs is 2"),
        (0, r"image_size: found 0; give one size in pixels, or sizes by epoch"),
        ("large", "found 'large'; give one size"),
        ([16, 32], "give one size"),
        ({"first": 16, 1: 32}, "give one size"),
        ({0: 16, 1: -32}, "give one size"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(world: World, size: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        world.finetune(student=TINY_VIT | {"image_size": size})


def test_sizes_survive_being_written_out_and_are_set_on_the_command_line(world: World) -> None:
    config = world.finetune(student=TINY_VIT | {"image_size": GROWING})
    path = world.folder / "recipe.yaml"
    path.write_text(dump_yaml(config))
    assert load_recipe(FinetuneConfig, path) == config
    assert load_recipe(FinetuneConfig, path, ["student.image_size={0: 8, 1: 64}"]).student.image_size == {0: 8, 1: 64}
    assert "image_size" not in dump_yaml(world.finetune())


def test_an_evaluation_at_the_size_of_the_views_is_refused_where_the_student_has_another(world: World) -> None:
    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}}
    with pytest.raises(ConfigError, match=f"set eval.views.size to {LARGER}"):
        pretrain(world.pretrain(student=TINY_VIT | {"image_size": LARGER}, eval=evaluation), solo_job())
