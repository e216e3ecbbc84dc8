"""A model file from a stranger names a network, and can ask for nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tests.conftest import CommandLine
from tests.models.networks import TINY, TINY_SPEC, card, tiny
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import load_model_file, save_model
from tinyvit_kd.models.plain_card import require_plain, without_fetching
from tinyvit_kd.models.student import open_model

HOSTILE: dict[str, dict[str, Any]] = {
    "the hub": {"name": "hf-hub:evil/model"},
    "the hub, spelt otherwise": {"name": "hf_hub:evil/model"},
    "the hub in capitals": {"name": "HF-HUB:evil/model"},
    "a folder": {"name": "local-dir:/etc"},
    "a path": {"name": "../../etc/passwd"},
    "an owner": {"name": "timm/resnet18"},
    "a URL": {"name": "https://evil.example/model"},
    "a line break": {"name": "resnet18\n"},
    "nothing": {"name": ""},
    "pretrained weights": {"name": "resnet18", "kwargs": {"pretrained": True}},
    "pretrained weights, said to be none": {"name": "resnet18", "kwargs": {"pretrained": False}},
    "a file": {"name": "resnet18", "kwargs": {"checkpoint_path": "/etc/passwd"}},
    "a file, said to be plain": {"name": "resnet18", "kwargs": {"checkpoint_path": "weights"}},
    "a tag": {"name": "resnet18", "kwargs": {"pretrained_cfg": "a1_in1k"}},
    "an overlay": {"name": "resnet18", "kwargs": {"pretrained_cfg_overlay": "x"}},
    "a folder for the hub's files": {"name": "resnet18", "kwargs": {"cache_dir": "x"}},
    "features": {"name": "resnet18", "kwargs": {"features_only": True}},
    "a path for an argument": {"name": "resnet18", "kwargs": {"act_layer": "/etc/passwd"}},
    "a URL for an argument": {"name": "resnet18", "kwargs": {"stem_type": "http://evil.example"}},
    "an argument of widths": {**TINY_SPEC.model_dump(mode="json"), "kwargs": {"pretrained": True}},
}


@pytest.fixture
def no_network_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("timm was asked")

    monkeypatch.setattr(timm, "create_model", refuse)
    monkeypatch.setattr(timm, "get_pretrained_cfg", refuse)


def written(folder: Path, architecture: dict[str, Any]) -> Path:
    """A model file whose hash is right, as anybody can write it."""
    save_model(folder / "model.safetensors", tiny().state_dict(), replace(card(), architecture=architecture))
    return folder


@pytest.mark.usefixtures("no_network_is_built")
@pytest.mark.parametrize("architecture", HOSTILE.values(), ids=HOSTILE)
def test_a_card_that_asks_for_more_is_refused_before_timm_is_asked(
    tmp_path: Path, architecture: dict[str, Any]
) -> None:
    written(tmp_path, architecture)
    for opened in (load_model_file, open_model):
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path)
        assert "more than a network" in caught.value.what or "cannot be read" in caught.value.what
        assert str(tmp_path) in caught.value.where


@pytest.mark.usefixtures("no_network_is_built")
def test_a_strangers_file_ends_each_command_with_a_paragraph(
    tmp_path: Path, dumped: Path, command_line: CommandLine
) -> None:
    from benchmarks.tiny_world import dump_recipe, evaluate_recipe, finetune_recipe

    model = written(tmp_path / "model", {"name": "hf-hub:evil/model"})
    recipes = {
        "evaluate": evaluate_recipe(model, dumped / "shards"),
        "dump-logits": dump_recipe(dumped / "shards", model, tmp_path / "store"),
        "finetune": finetune_recipe(dumped / "shards", tmp_path / "run", student={"init_from": str(model)}),
    }
    for command, tree in recipes.items():
        (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
        ended = command_line(command, tmp_path / "recipe.yaml")
        assert ended.code == 2
        assert "asks for more than a network of timm's" in ended.err
        assert "hf-hub:evil/model" in ended.err


PLAIN: dict[str, dict[str, Any]] = {
    "a name": {"name": "resnet18"},
    "a name with a tag": {"name": "convnext_xlarge.fb_in22k"},
    "arguments": {"name": "vit_tiny_patch16_224", "kwargs": {"img_size": [32, 32], "act_layer": "gelu", "depth": 2}},
}


@pytest.mark.parametrize("architecture", PLAIN.values(), ids=PLAIN)
def test_what_names_a_network_alone_is_taken(architecture: dict[str, Any]) -> None:
    require_plain(ModelSpec.model_validate(architecture), "here")


def test_every_name_that_timm_has_is_plain() -> None:
    for name in {*timm.list_models(), *timm.list_models(pretrained=True)}:
        require_plain(ModelSpec(name=name), "here")


def test_what_a_recipe_may_fetch_is_not_written_to_its_students_card() -> None:
    spec = ModelSpec(name="resnet18", kwargs={"pretrained": True, "cache_dir": "/x", "zero_init_last": False})
    assert without_fetching(spec) == ModelSpec(name="resnet18", kwargs={"zero_init_last": False})


@pytest.mark.skipif(not hasattr(timm.models._hub, "load_model_config_from_path"), reason="this timm knows no folders")
def test_a_student_that_a_folder_describes_is_written_under_timms_name(
    tmp_path: Path, dumped: Path, command_line: CommandLine
) -> None:
    from benchmarks.tiny_world import ONE_EPOCH, evaluate_recipe, finetune_recipe

    (tmp_path / "described").mkdir()
    described = {"architecture": "deit_tiny_patch16_224", "model_args": {"depth": 1, "embed_dim": 12}}
    described["pretrained_cfg"] = {"input_size": [3, 16, 16]}
    (tmp_path / "described" / "config.json").write_text(json.dumps(described))
    student = {"name": f"local-dir:{tmp_path / 'described'}", "kwargs": {"img_size": 16}}
    tree = finetune_recipe(dumped / "shards", tmp_path / "run", student=student, schedule=ONE_EPOCH)
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    assert command_line("finetune", tmp_path / "recipe.yaml").code == 0
    (tmp_path / "described" / "config.json").unlink()
    found = load_model_file(tmp_path / "run")[1]
    assert found is not None
    assert found.spec.name == "deit_tiny_patch16_224"
    assert found.spec.kwargs == {"depth": 1, "embed_dim": 12, "img_size": 16}
    (tmp_path / "recipe.yaml").write_text(json.dumps(evaluate_recipe(tmp_path / "run", dumped / "shards")))
    assert command_line("evaluate", tmp_path / "recipe.yaml").code == 0


def no_hub(*_: Any, **__: Any) -> None:
    raise ConnectionError("the name huggingface.co cannot be resolved")  # as without a network, but at once


@pytest.mark.parametrize("name", ["local-dir:/nowhere", "hf-hub:a/b", "hf_hub:a/b", "s3://bucket/model"])
def test_a_students_description_that_cannot_be_reached_ends_with_a_paragraph(
    tmp_path: Path, dumped: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from benchmarks.tiny_world import finetune_recipe

    monkeypatch.setattr("timm.models._hub.load_model_config_from_hf", no_hub)
    tree = finetune_recipe(dumped / "shards", tmp_path / "run", student={"name": name})
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    ended = command_line("finetune", tmp_path / "recipe.yaml")
    assert ended.code == 2
    assert f"the network's description cannot be read. Where: {name}." in ended.err


def test_weights_that_a_students_arguments_fetch_in_vain_end_with_a_paragraph(
    tmp_path: Path, dumped: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.tiny_world import finetune_recipe

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", no_hub)
    student = {"name": "resnet10t.c3_in1k", "kwargs": {"pretrained": True}}
    tree = finetune_recipe(dumped / "shards", tmp_path / "run", student=student)
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    ended = command_line("finetune", tmp_path / "recipe.yaml")
    assert ended.code == 2
    assert "the network cannot be built with what its arguments fetch" in ended.err
    assert "HF_HOME" in ended.err


def test_a_teachers_description_that_cannot_be_reached_ends_with_a_paragraph(
    tmp_path: Path, dumped: Path, command_line: CommandLine
) -> None:
    from benchmarks.tiny_world import dump_recipe

    torch.save(tiny().state_dict(), tmp_path / "weights.pth")
    teacher = {"name": "local-dir:/nowhere", "checkpoint": str(tmp_path / "weights.pth")}
    tree = dump_recipe(dumped / "shards", tmp_path, tmp_path / "store", teacher=teacher)
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    ended = command_line("dump-logits", tmp_path / "recipe.yaml")
    assert ended.code == 2
    assert "the network's description cannot be read" in ended.err


HUGE: dict[str, dict[str, Any]] = {
    "classes": {"num_classes": 2_000_000_000},
    "pixels": {"image_size": 2_000_000},
    "channels": {"architecture": {"tiny_vit": {**TINY.model_dump(), "embed_dims": [16, 24, 32, 2_000_000]}}},
    "blocks": {"architecture": {"tiny_vit": {**TINY.model_dump(), "depths": [1, 1, 2, 2_000_000]}}},
    "an argument's channels": {"architecture": {"name": "vit_tiny_patch16_224", "kwargs": {"embed_dim": 3_000_000}}},
    "an argument's blocks": {"architecture": {"name": "vit_tiny_patch16_224", "kwargs": {"depth": 3_000_000}}},
    "an argument's pixels": {"architecture": {"name": "vit_tiny_patch16_224", "kwargs": {"img_size": [9, 10**9]}}},
}


@pytest.mark.usefixtures("no_network_is_built")
@pytest.mark.parametrize("changes", HUGE.values(), ids=HUGE)
def test_a_card_with_sizes_beyond_its_weights_is_refused_before_memory_is_spent(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    save_model(tmp_path / "model.safetensors", tiny().state_dict(), replace(card(), **changes))
    with pytest.raises(CheckpointError, match=r"larger than its weights|cannot be read"):
        open_model(tmp_path)
