"""Whole stages on networks that this package did not train: scored as timm scores them, asked, and started from."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from benchmarks.tiny_world import ONE_EPOCH, STILL, VIEWS, World
from tests.conftest import CommandLine
from tests.models import sources
from tests.models.networks import MEAN
from tests.models.sources import HUB, SIDE, offline_hub
from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import EvaluateConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.models.open_network import open_network
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.store import LogitStore

__all__ = ["offline_hub"]
LARGER = VIEWS | {"size": SIDE}


def top1_of_timm(config: EvaluateConfig) -> float:
    """What timm's own transform and forward pass give on the same images, percent."""
    network, _ = open_network(config)
    transform: Any = create_transform(**resolve_model_data_config(network), is_training=False)
    shards = ShardSet.load(config.shards.path, config.shards.split or "")
    reader, right = shards.reader(), []
    for shard, length in enumerate(shards.lengths.tolist()):
        labels = shards.index(shard).labels
        for index in range(length):
            image = transform(Image.open(io.BytesIO(reader.read(shard, index))).convert("RGB"))
            with torch.inference_mode():
                right.append(network.eval()(image[None]).argmax().item() == labels[index])
    return float(100 * np.mean(right))


@pytest.mark.slow
def test_a_real_teacher_scores_as_in_timms_own_pipeline(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = {
        "stage": "evaluate",
        "model": str(shared_data / "real_teacher" / "tf_efficientnet_lite0.safetensors"),
        "name": "tf_efficientnet_lite0",
        "class_list": "imagenet",
        "shards": {
            "path": str(shared_data / "photos"),
            "split": "val",
            "class_list": "imagenet",
            "index_dir": str(tmp_path),
        },
        "runtime": {"workers": 0},
    }
    config = validate(EvaluateConfig, tree, "here")
    scores = evaluate(config, solo_job())
    assert scores["class_names_compared"] == 1
    assert scores["top1"] > 80
    assert scores["top1"] == pytest.approx(top1_of_timm(config))
    told = capsys.readouterr().err
    assert "1,000 classes (imagenet, from the recipe), input of 224 pixels (from timm), mean 0.5 0.5 0.5" in told
    assert "scored in views of 224 pixels, center, crop_pct 0.875, bicubic (from timm)" in told


def class_ids(world: World) -> list[str]:
    return (world.shards / "classes.txt").read_text().split()


@pytest.fixture
def theirs(world: World) -> Path:
    """A folder that timm wrote, of a network for the world's classes in another order."""
    folder = world.folder / "theirs"
    folder.mkdir()
    sources.timms_folder(folder, names=class_ids(world)[::-1])
    return folder


def test_a_folder_of_timms_is_scored_by_names_in_its_own_views(
    world: World, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluate(world.evaluate(model=str(theirs), views={}), solo_job())
    assert scores["class_names_compared"] == 1
    told = capsys.readouterr().err
    assert f"model tiny_vit_5m_224: weights from {theirs}, 24 classes (label_names, from config.json)" in told
    assert f"views of {SIDE} pixels, center, crop_pct 0.5, bicubic (from config.json)" in told
    other = evaluate(world.evaluate(model=str(theirs), views={"mode": "squash"}), solo_job())
    assert other["samples"] == scores["samples"]
    assert f"(config.json: {SIDE} pixels, center, crop_pct 0.5, bicubic)" in capsys.readouterr().err


def test_a_folder_of_timms_is_a_teacher_with_its_class_list(world: World, theirs: Path) -> None:
    store = {"path": str(world.folder / "new"), "topk": 5, "views": 1}
    dump_logits(world.dump(teacher={"checkpoint": str(theirs)}, store=store), solo_job())
    manifest = LogitStore.open(world.folder / "new").manifest
    assert (manifest.teacher.image_size, tuple(manifest.teacher.mean)) == (SIDE, MEAN)
    assert manifest.class_list == "label_names"


def test_a_student_goes_on_from_a_folder_of_timms_with_its_classes_by_name(
    world: World, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"views": LARGER, "optim": STILL, "schedule": ONE_EPOCH | {"warmup_epochs": 0}}
    finetune(world.finetune(student={"init_from": str(theirs)}, **changes), solo_job())
    before, _ = load_model_file(theirs)
    after, _ = load_model_file(world.folder / "finetuned")
    torch.testing.assert_close(after["head.fc.weight"], before["head.fc.weight"].flip(0), rtol=1e-3, atol=1e-6)
    told = capsys.readouterr().err
    assert f"24 of 24 classes (classes) are in the head of {theirs} (label_names)" in told
    assert f"{theirs} was trained on input of mean 0.4 0.5 0.6 and deviation 0.2 0.25 0.3" in told


@pytest.mark.parametrize("name", [HUB, f"hf-hub:timm/{HUB}"])
def test_a_student_starts_from_weights_that_timm_fetches_and_goes_on_without_them(
    world: World, offline_hub: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source = sources.pretrained_name(offline_hub)
    changes: dict[str, Any] = {
        "student": {"name": name, "pretrained": True},
        "optim": STILL,
        "schedule": ONE_EPOCH | {"warmup_epochs": 0},
    }
    finetune(world.finetune(**changes), solo_job())
    after, card = load_model_file(world.folder / "finetuned")
    shutil.rmtree(offline_hub)
    (world.folder / "finetuned" / "summary.json").unlink()
    finetune(world.finetune(**changes), solo_job())  # from its last checkpoint
    assert load_model_file(world.folder / "finetuned")[0].keys() == after.keys()
    anew = changes | {"student": changes["student"] | {"drop_path_rate": 0.1}}
    with pytest.raises(ConfigError, match="pretrained weights"):
        finetune(world.finetune(**anew), solo_job())
    before = source.network.state_dict()
    assert card is not None
    assert (str(card.spec.name).partition(".")[0], card.num_classes) == (HUB.partition(".")[0], 24)
    torch.testing.assert_close(after["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    assert after["pos_embed"].shape != before["pos_embed"].shape
    told = capsys.readouterr().err
    assert told.count("its head of 1000 classes does not fit, the new one starts at zero") == 1
    assert "continuing from step 6 of 6" in told


@pytest.mark.parametrize("name", [HUB, f"hf-hub:timm/{HUB}"])
def test_a_run_at_a_url_goes_on_without_the_hub_on_another_machine(
    world: World, offline_hub: Path, s3: S3Server, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    del s3
    sources.pretrained_name(offline_hub)
    url = f"s3://{BUCKET}/{uuid4().hex}"

    def tune(machine: str) -> None:
        runtime = {"workers": 0, "work_dir": str(world.folder / machine)}
        student = {"name": name, "pretrained": True}
        finetune(world.finetune(output=url, student=student, runtime=runtime, schedule=ONE_EPOCH), solo_job())

    tune("first")
    for made in ("summary.json", "model.safetensors"):
        open_storage(url).remove(made)
    shutil.rmtree(offline_hub)
    tune("second")
    assert "continuing from step 6 of 6" in capsys.readouterr().err
    assert open_storage(url).info("model.safetensors") is not None


def test_classes_that_cannot_be_compared_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    folder = world.folder / "theirs"
    folder.mkdir()
    sources.timms_folder(folder, names=["crane"] * 24)
    assert evaluate(world.evaluate(model=str(folder), views={}), solo_job())["class_names_compared"] == 0
    assert "the model has no class list: its class i is taken for class i of the labels" in capsys.readouterr().err


def test_a_class_list_of_another_length_is_refused(world: World, theirs: Path) -> None:
    (world.folder / "short.txt").write_text("a\nb\n")
    config = world.evaluate(model=str(theirs), views={}, class_list=str(world.folder / "short.txt"))
    with pytest.raises(ConfigError, match="another number of classes than its class list") as caught:
        evaluate(config, solo_job())
    assert caught.value.found == "24 classes in tiny_vit_5m_224, 2 in short"
    assert caught.value.where == "class_list"


REFUSED: dict[str, tuple[list[str], str]] = {
    "no file": (["model=nowhere"], "A model file is missing"),
    "no weights at all": (["model=null"], "give model (a local file or folder) or pretrained: true"),
    "two": (["name=resnet18", "pretrained=true"], "give model or pretrained: true, not both"),
    "no name": (["model=null", "pretrained=true"], "needs name, a timm model name"),
    "unknown name": (["model=null", "pretrained=true", "name=resnet81"], "timm knows no network of this name"),
}


@pytest.mark.parametrize(("overrides", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_opened_is_one_paragraph(
    overrides: list[str], told: str, world: World, command_line: CommandLine
) -> None:
    recipe = world.folder / "evaluate.yaml"
    recipe.write_text(f"stage: evaluate\nmodel: {world.teacher}\nshards: {{path: {world.shards}, split: train}}\n")
    ended = command_line("evaluate", recipe, *(part for each in overrides for part in ("--set", each)))
    assert ended.code == 2
    assert told.casefold() in ended.err.casefold()
    assert "Traceback" not in ended.err


def test_a_checkpoint_of_another_network_stops_a_run_before_it_begins(world: World, tmp_path: Path) -> None:
    source = sources.official_deit(tmp_path)
    student = {"name": "resnet10t", "init_from": str(source.file)}
    with pytest.raises(CheckpointError, match="another network"):
        finetune(world.finetune(student=student), solo_job())
    assert not list(world.folder.glob("finetuned/checkpoints/*"))
