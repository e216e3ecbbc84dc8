"""The three stages end to end, on drawn images."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.fault_injection.compare import store_differences
from benchmarks.local_files import block_file
from benchmarks.tiny_world import NETWORK, SIZE, TRAINING, VIEWS, World, make_teacher
from tests.models.weights import assert_nearly_same_weights, assert_same_weights
from tests.store.blocks import same
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import CheckpointError, ReplayError
from tinyvit_kd.models.teacher import build_teacher, topk_probs
from tinyvit_kd.runs.stored_data import open_stored_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.statistics import holes, statistics
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch, SparseTargets
from tinyvit_kd.training.objectives import Output


def test_a_student_comes_out_of_the_store_and_learns_from_labels(world: World) -> None:
    distilled = pretrain(world.pretrain(), solo_job())
    assert distilled["digests_checked"] == 2 * 96
    finetuned = finetune(world.finetune(student={"init_from": str(world.folder / "distilled")}), solo_job())
    scores = evaluate(world.evaluate(model=str(world.folder / "finetuned")), solo_job())
    assert np.isfinite([distilled["loss"], finetuned["loss"]]).all()
    assert scores["samples"] == 96
    assert 0 <= scores["top1"] <= scores["top5"] <= 100


def test_stage_two_runs_without_a_teacher_module(world: World) -> None:
    recipe = world.folder / "pretrain.yaml"
    recipe.write_text(dump_yaml(world.pretrain()))
    code = (
        "import sys; from pathlib import Path\n"
        "from tinyvit_kd.cli import cli\n"
        f"cli(['pretrain', {str(recipe)!r}], standalone_mode=False)\n"
        "assert not [name for name in sys.modules if 'teacher' in name], 'a teacher was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_every_view_of_the_store_is_replayed_bit_for_bit(world: World, mixing: dict[str, Any]) -> None:
    store = {"path": str(world.folder / "other"), "topk": 3, "views": 2}
    dump_logits(world.dump(views=VIEWS | mixing, store=store), solo_job())
    result = pretrain(world.pretrain(store={"path": str(world.folder / "other")}), solo_job())
    assert result["digests_checked"] == 2 * 96


def test_epochs_use_the_views_in_turn_and_need_only_those_blocks(world: World) -> None:
    block_file(LogitStore.open(world.folder / "store"), 1, 1).unlink()
    one_epoch = TRAINING["schedule"] | {"epochs": 1, "warmup_epochs": 0}
    pretrain(world.pretrain(schedule=one_epoch), solo_job())


def test_training_continues_inside_an_epoch_as_if_it_had_never_stopped(world: World) -> None:
    pretrain(world.pretrain(), solo_job())
    again = world.pretrain(output=str(world.folder / "again"))
    pretrain(again, solo_job())
    assert_same_weights(world.folder / "distilled", world.folder / "again")
    (world.folder / "again" / "model.safetensors").unlink()
    newest = sorted((world.folder / "again" / "checkpoints").glob("*.pt"))
    newest[-1].unlink()
    pretrain(again, solo_job())  # from step 8 of 12
    assert_same_weights(world.folder / "distilled", world.folder / "again")


def test_the_number_of_workers_changes_nothing(world: World) -> None:
    pretrain(world.pretrain(), solo_job())
    pretrain(
        world.pretrain(output=str(world.folder / "workers"), runtime={"workers": 2, "prefetch": 2}),
        solo_job(),
    )
    assert_same_weights(world.folder / "distilled", world.folder / "workers")


def test_micro_batches_give_the_gradients_of_the_whole_batch(world: World) -> None:
    # Batch norm sees other batches when they are split, so its statistics are frozen; a large epsilon keeps
    # AdamW from dividing rounding errors by themselves.
    sections = {"train": TRAINING["train"] | {"freeze_bn_stats": True}, "optim": TRAINING["optim"] | {"eps": 1.0}}
    sections["student"] = {"tiny_vit": NETWORK, "drop_path_rate": 0.0}
    pretrain(world.pretrain(**sections), solo_job())
    halves = TRAINING["schedule"] | {"micro_batch_size": 8}
    pretrain(world.pretrain(**sections, schedule=halves, output=str(world.folder / "halves")), solo_job())
    assert_nearly_same_weights(world.folder / "distilled", world.folder / "halves")


def test_a_second_dump_makes_only_what_is_missing(world: World) -> None:
    store = LogitStore.open(world.folder / "store")
    before = block_file(store, 0, 0).stat().st_mtime_ns, store.read_block(1, 1)
    block_file(store, 1, 1).unlink()
    result = dump_logits(world.dump(), solo_job())
    assert result["views"] == len(before[1])
    assert block_file(store, 0, 0).stat().st_mtime_ns == before[0]
    assert same(store.read_block(1, 1), before[1])


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_of_a_dump_make_the_same_store(dumped: Path, tmp_path: Path, parts: int) -> None:
    config = World(dumped).dump(store={"path": str(tmp_path / "store"), "topk": 5, "views": 2})
    for number in range(parts, 0, -1):
        dump_logits(config, solo_job(), (number, parts))
    assert store_differences(tmp_path / "store", dumped / "store") == []


def test_more_views_can_be_added_to_a_store(world: World) -> None:
    store = {"path": str(world.folder / "store"), "topk": 5, "views": 4}
    result = dump_logits(world.dump(store=store), solo_job())
    assert result["views"] == 2 * 96
    assert LogitStore.open(world.folder / "store").missing_blocks() == []


def test_a_changed_image_is_named_before_a_step_uses_it(world: World) -> None:
    shards = ShardSet.load(world.folder / "shards", "train")
    index = shards.index(1)
    # The first quantiser: the image still decodes, all of it a little off.
    with Path(shards.locations[1]).open("r+b") as file:
        file.seek(int(index.offsets[7]) + 25)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x10]))
    with pytest.raises(ReplayError) as caught:
        pretrain(world.pretrain(), solo_job())
    assert shards.index(1).key(7) in str(caught.value)


def test_offline_distillation_equals_the_teacher_in_the_loop(world: World) -> None:
    """With K = C, float32 and one process, the stored targets are the online ones bit for bit.

    The batch of the teacher is one view, so its arithmetic cannot depend on how views are put into batches.
    """
    classes = 24
    store = {"path": str(world.folder / "exact"), "topk": classes, "views": 2, "encoding": "exact"}
    dump = world.dump(store=store, batch_size=1, views_per_decode=1)
    dump_logits(dump, solo_job())
    config = world.pretrain(store={"path": str(world.folder / "exact")})
    pretrain(config, solo_job())
    online = world.pretrain(store={"path": str(world.folder / "exact")}, output=str(world.folder / "online"))
    train_with_teacher_in_the_loop(online, dump, classes)
    assert_same_weights(world.folder / "distilled", world.folder / "online")


def train_with_teacher_in_the_loop(online: PretrainConfig, dump: DumpConfig, classes: int) -> None:
    """Stage two on the same views, its targets from the teacher at every step instead of the store."""
    teacher = build_teacher(dump.teacher, torch.device("cpu"), "float32")
    data = open_stored_data(online, solo_job())
    objective = data.objective

    def asking(output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            answers = [topk_probs(teacher(view[None]), classes) for view in batch.views]
        columns = [torch.cat(column).clone() for column in zip(*answers, strict=True)]
        return objective(output, batch._replace(targets=SparseTargets(*columns)))

    train_student(online, replace(data, objective=asking), solo_job())


def test_finetuning_at_a_higher_resolution_starts_from_the_lower_one(world: World) -> None:
    pretrain(world.pretrain(), solo_job())
    wide = NETWORK | {"window_sizes": [4, 4, 4, 4]}
    config = world.finetune(
        student={"tiny_vit": wide, "init_from": str(world.folder / "distilled")}, views=VIEWS | {"size": 2 * SIZE}
    )
    result = finetune(config, solo_job())
    assert np.isfinite(result["loss"])


def test_mixed_labels_train_from_scratch(world: World) -> None:
    result = finetune(world.finetune(views=VIEWS | {"mixup": 0.8, "cutmix": 1.0}), solo_job())
    assert np.isfinite(result["loss"])


def test_a_run_that_was_killed_before_its_summary_is_scored_when_it_is_run_again(world: World) -> None:
    evaluation = {"shards": {"path": str(world.folder / "shards")}, "views": {"size": SIZE}}
    config = world.pretrain(eval=evaluation)
    first = pretrain(config, solo_job())
    (world.folder / "distilled" / "summary.json").unlink()
    again = pretrain(config, solo_job())
    assert again["top1"] == first["top1"]


def test_a_torn_checkpoint_is_passed_over_with_a_word(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    config = world.pretrain()
    pretrain(config, solo_job())
    (Path(config.output) / "summary.json").unlink()
    newest = sorted((Path(config.output) / "checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    capsys.readouterr()
    pretrain(config, solo_job())
    printed = capsys.readouterr().err
    assert f"passing over a checkpoint: a checkpoint cannot be read. Where: {newest}" in printed
    assert "continuing from step 8 of 12" in printed


def test_other_starting_weights_are_another_run(world: World) -> None:
    """Stage two was repeated into the same folder: stage three must not answer with the old student's numbers."""
    config = world.finetune(student={"init_from": str(world.folder / "teacher")})
    finetune(config, solo_job())
    make_teacher(world.folder, seed=5)
    with pytest.raises(CheckpointError, match="another start"):
        finetune(config, solo_job())


def test_a_finished_run_is_not_trained_again(world: World) -> None:
    first = pretrain(world.pretrain(), solo_job())
    changed = (world.folder / "distilled" / "model.safetensors").stat().st_mtime_ns
    assert pretrain(world.pretrain(), solo_job()) == first
    assert (world.folder / "distilled" / "model.safetensors").stat().st_mtime_ns == changed


def test_a_head_of_other_classes_is_scored_on_the_columns_it_shares(world: World) -> None:
    make_teacher(world.folder)  # its 24 classes, in the order of the labels
    names = (world.folder / "shards" / "classes.txt").read_text().split()
    (world.folder / "reversed.txt").write_text("\n".join(reversed(names)) + "\n")
    same = evaluate(world.evaluate(model=str(world.folder / "teacher")), solo_job())
    turned = evaluate(
        world.evaluate(model=str(world.folder / "teacher"), class_list=str(world.folder / "reversed.txt")),
        solo_job(),
    )
    assert same["samples"] == turned["samples"]
    assert same["top1"] != turned["top1"]


def test_metrics_and_recipe_are_written_beside_the_model(world: World) -> None:
    pretrain(world.pretrain(), solo_job())
    lines = [json.loads(line) for line in (world.folder / "distilled" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "lr", "grad_norm", "agreement", "data_wait"} <= lines[0].keys()
    assert (world.folder / "distilled" / "recipe.yaml").exists()


def test_odd_and_broken_files_go_through_all_stages(tmp_path: Path, shared_data: Path) -> None:
    """237 odd files: what cannot be decoded is a hole at the dump and at the replay, and nothing else is."""
    for path in (shared_data / "odd_images").iterdir():
        if path.suffix != ".md":  # the one MPO among them is packed under the name that its bytes deserve
            target = tmp_path / "images" / str(len(path.name) % 3) / path.name.replace(".mpo", ".jpg")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    build_shards(tmp_path / "images", tmp_path / "shards", "train", samples_per_shard=100, seed=0, processes=1)
    make_teacher(tmp_path, num_classes=3)
    world = World(tmp_path)
    dumped = dump_logits(world.dump(store={"path": str(tmp_path / "store"), "topk": 2, "views": 2}), solo_job())
    store = LogitStore.open(tmp_path / "store")
    listed = list(holes(store))
    assert dumped["holes"] == 2 * len(listed) > 0
    assert sum(statistics(store).holes.values()) == len(listed)
    assert {reason for _, _, reason in listed} == set(RecordStatus) - {RecordStatus.VALID}
    result = pretrain(world.pretrain(store={"path": str(tmp_path / "store")}), solo_job())
    seen = TRAINING["schedule"]["global_batch_size"] * result["step"]
    assert 0 < result["digests_checked"] <= seen
    labelled = finetune(world.finetune(), solo_job())
    assert 0 < labelled["holes"] < 1
    scores = evaluate(world.evaluate(), solo_job())
    assert scores["left_out"] == len(listed)
    assert scores["samples"] + scores["left_out"] == 237 == ShardSet.load(tmp_path / "shards").total


def test_the_world_is_as_small_as_it_says(world: World) -> None:
    assert ShardSet.load(world.folder / "shards", "train").total == 96
    assert ViewSpec.model_validate(VIEWS).size == SIZE
