"""Whole stages on networks of torchvision, of transformers and of a recipe's author: dumped, scored, trained, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.tiny_world import ONE_EPOCH, STILL, TRAINING, World, dump_recipe
from tests.conftest import CommandLine
from tests.models.foreign_networks import (
    CLASSES,
    HERE,
    INPUT,
    SIDE,
    TORCHVISION,
    normalised,
    small,
    spread,
    torchvision_file,
    vit_folder,
)
from tests.models.foreign_networks import Small as Small
from tinyvit_kd.analysis.samples.replayed_views import ReplayedViews
from tinyvit_kd.config.load import dump_yaml, load_recipe
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.models.teacher import topk_probs
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore

TOPK = 5
STUDENT: dict[str, Any] = {"call": f"{HERE}.Small", "kwargs": {"width": 6}}
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def a_called_one(_: Path) -> tuple[dict[str, Any], torch.nn.Module, Any, str, str]:
    said = f"teacher {HERE}.small: weights from {HERE}.small, 24 classes (no class list)"
    return (
        {"call": f"{HERE}.small", **INPUT},
        small(),
        (INPUT["mean"], INPUT["std"]),
        said,
        "mean 0.4 0.5 0.6 (from the recipe)",
    )


def one_of_torchvision(folder: Path) -> tuple[dict[str, Any], torch.nn.Module, Any, str, str]:
    file = folder / "weights.pth"
    network = torchvision_file(file)
    fields = {"torchvision": TORCHVISION, "checkpoint": str(file), "num_classes": CLASSES, "image_size": SIDE}
    said = f"teacher torchvision.models.{TORCHVISION}: weights from {file}, 24 classes (no class list)"
    return fields, network, IMAGENET, said, "mean 0.485 0.456 0.406 (from torchvision's IMAGENET1K_V1)"


def one_of_transformers(folder: Path) -> tuple[dict[str, Any], torch.nn.Module, Any, str, str]:
    network = vit_folder(folder / "vit")
    said = f"teacher ViTForImageClassification: weights from {folder / 'vit'}, 24 classes (id2label, from config.json)"
    place = "mean 0.4 0.5 0.6 (from preprocessor_config.json)"
    return {"transformers": str(folder / "vit")}, network, (INPUT["mean"], INPUT["std"]), said, place


KINDS = {"call": a_called_one, "torchvision": one_of_torchvision, "transformers": one_of_transformers}


def pixels(views: ReplayedViews, index: int) -> Any:
    """The first view of a sample of the second shard, as the teacher saw it."""
    found = views.view(1, index, 0)
    assert found.error is None
    return found.pixels


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_holds_what_the_network_itself_says(kind: str, world: World, command_line: CommandLine) -> None:
    teacher, network, (mean, std), *told = KINDS[kind](world.folder)
    store = {"path": str(world.folder / "new"), "topk": TOPK, "views": 1, "encoding": "exact"}
    recipe = world.folder / "dump.yaml"
    recipe.write_text(yaml.safe_dump(dump_recipe(world.shards, world.teacher, Path(), teacher=teacher, store=store)))
    done = command_line("dump-logits", recipe)
    assert done.code == 0, done.err
    for part in told:
        assert part in done.err

    opened = LogitStore.open(world.folder / "new")
    shards = ShardSet.load(world.shards, "train")
    config = load_recipe(DumpConfig, recipe)
    views = ReplayedViews(opened, shards.reader(), config.views)
    block = opened.read_block(1, 0)
    shown = np.stack([pixels(views, index) for index in range(4)])
    with torch.inference_mode():
        answer: Any = network.eval()(normalised(shown, mean, std))
    indices, probs, _ = topk_probs(getattr(answer, "logits", answer), TOPK)
    np.testing.assert_array_equal(block.indices[:4], indices)
    np.testing.assert_allclose(block.probs[:4], probs, rtol=1e-4, atol=1e-6)
    assert command_line("store", "verify", world.folder / "new", "--teacher", recipe).code == 0


def test_what_makes_a_teacher_is_in_the_manifest(world: World) -> None:
    entries = {}
    for kind, make in KINDS.items():
        teacher = make(world.folder)[0]
        config = world.dump(teacher=teacher, store={"path": str(world.folder / kind), "topk": 5, "views": 1})
        dump_logits(config, solo_job())
        entries[kind] = LogitStore.open(world.folder / kind).manifest
    assert entries["call"].teacher.name == f"{HERE}.small"
    assert entries["torchvision"].teacher.name == f"torchvision.models.{TORCHVISION}"
    assert entries["transformers"].teacher.name == "ViTForImageClassification"
    assert entries["transformers"].class_list == "id2label"
    assert "transformers" not in entries["call"].versions
    assert "transformers" in entries["transformers"].versions


def trained(world: World, output: str = "distilled", **changes: Any) -> Path:
    """Distil a student that code makes."""
    config = world.pretrain(output=str(world.folder / output), student=STUDENT, **changes)
    pretrain(config, solo_job())
    return world.folder / output


def test_a_students_file_remembers_the_function_and_other_stages_repeat_it(
    world: World, command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(world)
    state, card = load_model_file(run)
    assert card is not None
    assert (card.spec.call, card.spec.kwargs) == (STUDENT["call"], {"width": 6})
    assert state.keys() == Small(width=6).state_dict().keys()
    assert not (run / "config.json").exists()

    scores = evaluate(world.evaluate(call=STUDENT["call"]), solo_job())
    assert scores["samples"] == 96
    assert f"model {STUDENT['call']}: weights from {run}, 24 classes" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="names a function that makes its network"):
        evaluate(world.evaluate(), solo_job())

    finetune(world.finetune(student={"call": STUDENT["call"], "init_from": str(run)}, optim=STILL), solo_job())
    after, _ = load_model_file(world.folder / "finetuned")
    torch.testing.assert_close(after["body.weight"], state["body.weight"], rtol=1e-3, atol=1e-6)

    image = sorted((world.folder / "images-train").rglob("*.jpg"))[0]
    done = command_line("predict", run, image, "--json", "--library", "call", "--name", STUDENT["call"])
    assert done.code == 0, done.err
    assert len(json.loads(done.out)["top"]) == 5
    refused = command_line("predict", run, image)
    assert refused.code == 2
    assert f"set call to {STUDENT['call']}, or give --library call --name {STUDENT['call']}" in refused.err


def test_a_stopped_run_goes_on_as_if_it_had_not_been(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = load_model_file(trained(world, "whole"))
    run = trained(world, "stopped")
    (run / "summary.json").unlink()
    (run / "model.safetensors").unlink()
    for checkpoint in sorted((run / "checkpoints").iterdir())[1:]:
        checkpoint.unlink()
    again, _ = load_model_file(trained(world, "stopped"))
    assert "continuing from step 8 of 12" in capsys.readouterr().err
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def test_a_new_head_starts_at_zero_and_classes_are_mapped_by_name(world: World) -> None:
    run = trained(world)
    student = {"call": STUDENT["call"], "init_from": str(run), "head": "fresh"}
    finetune(world.finetune(student=student, optim=STILL, schedule=ONE_EPOCH | {"warmup_epochs": 0}), solo_job())
    after, _ = load_model_file(world.folder / "finetuned")
    assert float(after["classifier.weight"].abs().max()) < 1e-6


def test_the_head_can_be_trained_alone_and_an_average_is_kept(world: World) -> None:
    before, _ = load_model_file(trained(world, train=TRAINING["train"] | {"ema_decay": 0.5}))
    student = {"call": STUDENT["call"], "init_from": str(world.folder / "distilled")}
    finetune(world.finetune(student=student, train=TRAINING["train"] | {"trainable": "head"}), solo_job())
    after, _ = load_model_file(world.folder / "finetuned")
    assert torch.equal(after["body.weight"], before["body.weight"])
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])


def test_a_head_that_is_not_known_cannot_start_anew(world: World) -> None:
    torch.save(spread(Small()).state_dict(), world.folder / "weights.pth")
    student = {"call": f"{HERE}.Scaled", "init_from": str(world.folder / "weights.pth"), "head": "fresh"}
    with pytest.raises(ConfigError, match="no classifier that is known"):
        finetune(world.finetune(student=student), solo_job())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "layer decay": ({"optim": STILL | {"layer_decay": 0.5}}, "no layer decay can be applied"),
    "its memory": ({"student": STUDENT | {"grad_checkpointing": True}}, "cannot recompute its activations"),
    "stochastic depth": ({"student": STUDENT | {"drop_path_rate": 0.1}}, "unexpected keyword argument"),
    "other classes": ({"student": STUDENT | {"kwargs": {"num_classes": 7}}}, "another number of classes"),
    "a pair": ({"student": {"call": f"{HERE}.OfTwoModes"}}, "in training mode the network returns something else"),
}


@pytest.mark.parametrize(("changes", "told"), REFUSED.values(), ids=REFUSED)
def test_what_a_network_of_ones_own_cannot_do_is_refused(world: World, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        pretrain(world.pretrain(**{"student": STUDENT} | changes), solo_job())


def test_a_network_of_ones_own_is_not_contracted() -> None:
    with pytest.raises(ConfigError, match="the student cannot be contracted") as caught:
        shape_of(ModelSpec.model_validate(STUDENT), CLASSES, SIDE)
    assert caught.value.found == f"a network that {STUDENT['call']} makes"


def test_a_network_of_transformers_is_scored_in_its_own_views_and_exported(
    world: World, command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    vit_folder(world.folder / "vit", id2label=dict(enumerate(class_ids(world))), label2id={})
    tree: dict[str, Any] = {"transformers": str(world.folder / "vit"), "views": {}}
    scores = evaluate(world.evaluate(**tree, model=None), solo_job())
    assert scores["class_names_compared"] == 1
    told = capsys.readouterr().err
    assert "model transformers.ViTForImageClassification: weights from" in told
    assert "24 classes (id2label, from config.json), input of 16 pixels (from preprocessor_config.json)" in told
    assert "scored in views of 16 pixels, squash, crop_pct 1, bilinear (from preprocessor_config.json)" in told
    output = world.folder / "vit.pt2"
    done = command_line(
        "export", world.folder / "vit", "--library", "transformers", "--format", "torch-export", "--output", output
    )
    assert done.code == 0, done.err
    assert output.is_file()
    refused = command_line(
        "export", world.folder / "vit", "--library", "transformers", "--format", "timm", "--output", world.folder / "t"
    )
    assert "timm cannot build this network by name" in refused.err


def class_ids(world: World) -> list[str]:
    return (world.shards / "classes.txt").read_text().split()


def test_a_plan_costs_each_kind(world: World, command_line: CommandLine) -> None:
    for kind, make in KINDS.items():
        store = {"path": str(world.folder / "new"), "topk": TOPK, "views": 1}
        dump = dump_recipe(world.shards, world.teacher, Path(), teacher=make(world.folder)[0], store=store)
        (world.folder / "dump.yaml").write_text(yaml.safe_dump(dump))
        (world.folder / "pretrain.yaml").write_text(
            dump_yaml(world.pretrain(store={"path": store["path"]}, student=STUDENT))
        )
        done = command_line("plan", world.folder / "dump.yaml", world.folder / "pretrain.yaml", "--json")
        assert done.code == 0, (kind, done.out, done.err)
