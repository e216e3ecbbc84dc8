"""``export`` writes a run's weights for others, says where they come from, and replaces nothing of anybody's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.models.exporting.networks import DEIT, made
from tests.models.exporting.onnx_here import NEEDS_ONNX
from tests.models.timm_folders import opened_by_timm
from tests.models.weights import changed, weights
from tinyvit_kd.config.yaml_text import parse_yaml
from tinyvit_kd.models.modelfile import hash_weights, load_model_file, save_model
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain


@pytest.fixture
def run(world: World) -> Path:
    """A run that started from a distilled one, was scored, and has an average of its weights."""
    shards = {"path": str(world.folder / "shards"), "split": "train"}
    pretrain(world.pretrain(output=str(world.folder / "distilled")), solo_job())
    config = world.finetune(
        output=str(world.folder / "run"),
        student={"init_from": str(world.folder / "distilled")},
        train={"ema_decay": 0.5, "log_every": 2},
        eval={"shards": shards, "views": {"size": 16}},
    )
    finetune(config, solo_job())
    return world.folder / "run"


def test_a_timm_folder_holds_the_chosen_weights_and_tells_their_story(
    run: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    average, raw = tmp_path / "average", tmp_path / "raw"
    options = ("--format", "timm", "--license", "mit", "--dataset", "me/drawn", "--json")
    done = command_line("export", run, "--output", average, *options)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["weights"], told["largest_difference"]) == ("averaged", 0)
    assert command_line("export", run, "--output", raw, "--weights", "raw", *options).code == 0
    assert changed(run, average) == set()
    assert changed(run, raw) != set()
    assert hash_weights(weights(raw)) == hash_weights(load_model_file(run / "raw.safetensors")[0])
    opened_by_timm(average)
    card = huggingface_hub.ModelCard.load(average / "README.md")
    assert card.data.to_dict() == {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "knowledge-distillation", "tinyvit_kd"],
        "license": "mit",
        "datasets": ["me/drawn"],
    }
    figures = json.loads((run / "summary.json").read_text())["results"]
    assert f"| top-1, % | {figures['top1']:.2f} |" in card.text
    assert "1 of 2: distilled" in card.text
    assert "2 of 2: run" in card.text
    assert "The weights in here were not scored" not in card.text
    assert "The weights in here were not scored" in (raw / "README.md").read_text()
    assert str(run.parent) not in card.text, "paths of this machine are nobody's business"


@pytest.mark.slow
@NEEDS_ONNX
def test_onnx_and_programs_are_written_beside_the_weights(tmp_path: Path, command_line: CommandLine) -> None:
    import onnxruntime

    network, card = made(DEIT, 32)
    save_model(tmp_path / "model.safetensors", network.state_dict(), card)
    assert command_line("export", tmp_path, "--format", "onnx").code == 0
    assert command_line("export", tmp_path, "--format", "torch-export").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.onnx", "model.pt2"}
    texts = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_modelmeta().custom_metadata_map
    assert "# VisionTransformerDistilled" in texts["model_card"] or "# deit_tiny" in texts["model_card"]
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert program(torch.zeros(5, 3, 32, 32, dtype=torch.uint8)).shape == (5, 7)


def model(folder: Path, spec: dict[str, Any] = DEIT) -> Path:
    network, card = made(spec, 32)
    save_model(folder / "run" / "model.safetensors", network.state_dict(), card)
    return folder / "run"


def test_nothing_is_replaced_unless_that_is_asked_for(tmp_path: Path, command_line: CommandLine) -> None:
    options = ("export", model(tmp_path), "--format", "timm", "--output", tmp_path / "out")
    assert command_line(*options).code == 0
    (tmp_path / "out" / "README.md").write_text("my own words")
    refused = command_line(*options)
    assert refused.code == 2
    assert "exists already" in refused.err
    assert (tmp_path / "out" / "README.md").read_text() == "my own words"
    assert command_line(*options, "--overwrite").code == 0
    assert (tmp_path / "out" / "README.md").read_text() != "my own words"
    assert not list((tmp_path / "out").glob(".*"))


def test_the_files_of_a_run_are_never_replaced(tmp_path: Path, command_line: CommandLine) -> None:
    run = model(tmp_path)
    (run / "recipe.yaml").write_text("stage: finetune\ntrain: {ema_decay: null}\n")
    before = (run / "model.safetensors").read_bytes()
    done = command_line("export", run, "--format", "timm", "--output", run, "--overwrite")
    assert done.code == 2
    assert "the output is a run folder" in done.err
    assert (run / "model.safetensors").read_bytes() == before


def test_a_network_whose_answers_are_no_numbers_leaves_nothing_behind(
    tmp_path: Path, command_line: CommandLine
) -> None:
    network, card = made(DEIT, 32)
    state = network.state_dict() | {"head.bias": torch.full((7,), torch.nan)}
    save_model(tmp_path / "run" / "model.safetensors", state, card)
    done = command_line("export", tmp_path / "run", "--format", "timm", "--output", tmp_path / "out")
    assert done.code == 2
    assert "not finite" in done.err
    assert not (tmp_path / "out").exists()


def _run(folder: Path, recipe: str) -> Path:
    run = model(folder)
    (run / "recipe.yaml").write_text(recipe)
    return run


WEIGHTS: dict[str, tuple[str, str, str | None]] = {
    "no average": ("stage: finetune\ntrain: {ema_decay: null}\n", "averaged", "has no average"),
    "raw ones of a run without an average": ("stage: finetune\ntrain: {ema_decay: null}\n", "raw", None),
    "raw ones that are missing": ("stage: finetune\ntrain: {ema_decay: 0.5}\n", "raw", "raw weights of this run"),
}


@pytest.mark.parametrize(("recipe", "weights_", "told"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_a_run_does_not_have_are_refused(
    recipe: str, weights_: str, told: str | None, tmp_path: Path, command_line: CommandLine
) -> None:
    assert parse_yaml(recipe)
    done = command_line("export", _run(tmp_path, recipe), "--format", "timm", "--weights", weights_)
    assert done.code == (0 if told is None else 2), done.err
    assert (told or "") in done.err


def test_a_file_has_no_weights_to_choose_from(tmp_path: Path, command_line: CommandLine) -> None:
    file = model(tmp_path) / "model.safetensors"
    done = command_line("export", file, "--format", "timm", "--weights", "raw")
    assert done.code == 2
    assert "--weights chooses between the files of a run folder" in done.err
    assert command_line("export", file, "--format", "timm").code == 0
    assert (file.parent / "model-timm" / "config.json").is_file()


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "recipe.yaml").write_text("stage: pretrain\n")
    done = command_line("export", tmp_path, "--format", "timm")
    assert done.code == 2
    assert "a model file is missing" in done.err
    assert "finish the run" in done.err
