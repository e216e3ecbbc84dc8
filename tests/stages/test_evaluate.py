"""A score is what a dense computation over all images gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.tiny_world import SIZE, World
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.view_spec import EvalViewSpec, ModelViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, load_model_file, save_model
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.views.render import render_eval

USUAL = EvalViewSpec(size=SIZE)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
DEIT: dict[str, Any] = {
    "name": "deit_tiny_distilled_patch16_224",
    "kwargs": {"img_size": SIZE, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2},
}


def save_deit(folder: Path, num_classes: int, **names: Any) -> nn.Module:
    """A distilled DeiT whose two heads disagree, as a run folder."""
    spec = ModelSpec.model_validate(DEIT)
    network = build_network(spec, num_classes, SIZE, seed=3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (3 if "head" in name else 0.3))
    architecture = spec.model_dump(mode="json")
    card = ModelCard(architecture=architecture, num_classes=num_classes, image_size=SIZE, mean=MEAN, std=STD, **names)
    save_model(folder / "model.safetensors", network.state_dict(), card)
    return network.eval()


def images_and_labels(folder: Path, spec: EvalViewSpec = USUAL) -> tuple[torch.Tensor, np.ndarray]:
    """Every image of a shard set as the network gets it, and every label."""
    shards = ShardSet.load(folder / "shards", "train")
    reader = shards.reader()
    views = [
        render_eval(reader.read(shard, index), spec)
        for shard, length in enumerate(shards.lengths.tolist())
        for index in range(length)
    ]
    labels = np.concatenate([shards.index(shard).labels for shard in range(len(shards.names))])
    return Normalizer(MEAN, STD, torch.device("cpu"))(torch.from_numpy(np.stack(views))), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def dense_scores(by_head: list[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """What ``evaluate`` says, from each head's logits [N, C] in double precision."""
    order = (softmax(by_head[0]) + softmax(by_head[1])).argsort(axis=1)[:, ::-1]
    right = order[:, 0] == labels
    return {
        "top1": 100 * right.mean(),
        "top5": 100 * (order[:, :5] == labels[:, None]).any(axis=1).mean(),
        "mean_per_class": 100 * np.mean([right[labels == each].mean() for each in np.unique(labels)]),
        "top1_head": 100 * (by_head[0].argmax(axis=1) == labels).mean(),
        "top1_head_dist": 100 * (by_head[1].argmax(axis=1) == labels).mean(),
        "top1_mean_of_logits": 100 * ((by_head[0] + by_head[1]).argmax(axis=1) == labels).mean(),
        "samples": len(labels),
        "left_out": 0,
        "left_out_unlabelled": 0,
        "left_out_undecodable": 0,
    }


@torch.inference_mode()
def dense_logits(network: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
    tokens = network.forward_features(images)  # type: ignore[operator]
    heads = (network.head(tokens[:, 0]), network.head_dist(tokens[:, 1]))  # type: ignore[operator]
    return [logits.double().numpy() for logits in heads]


def test_a_distilled_network_is_scored_by_both_heads_and_by_each(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    network = save_deit(world.folder / "deit", 24)
    images, labels = images_and_labels(world.folder)
    expected = dense_scores(dense_logits(network, images), labels)
    found = evaluate(world.evaluate(model=str(world.folder / "deit")), solo_job())
    assert found == pytest.approx(expected | {"class_names_compared": 0})  # this model has no class list
    assert len({found[name] for name in ("top1", "top1_head", "top1_head_dist")}) > 1
    told = capsys.readouterr().err
    assert f"top-1 {found['top1']:.2f} % (head {found['top1_head']:.2f} %, head_dist" in told
    assert f"%, mean of logits {found['top1_mean_of_logits']:.2f} %), top-5" in told


def test_columns_are_selected_from_each_head_before_their_mean_is_taken(world: World) -> None:
    classes = (world.folder / "shards" / "classes.txt").read_text().split()
    ids = tuple(reversed(["other", *classes[1:], "another"]))  # one of the labels' classes is not in the head
    network = save_deit(world.folder / "deit", len(ids), class_name="more", class_ids=ids)
    images, labels = images_and_labels(world.folder)
    selected = [
        np.stack([logits[:, ids.index(name)] if name in ids else np.zeros(len(labels)) for name in classes], axis=1)
        for logits in dense_logits(network, images)
    ]
    found = evaluate(world.evaluate(model=str(world.folder / "deit")), solo_job())
    assert found == pytest.approx(dense_scores(selected, labels) | {"class_names_compared": 1})


FILES: dict[str, dict[str, Any]] = {
    "whole image": {"mode": "squash"},
    "a crop of it": {"mode": "squash", "crop_pct": 0.5},
    "centre, bilinear": {"interpolation": "bilinear", "crop_pct": 1.0},
}


@pytest.mark.parametrize("views", FILES.values(), ids=FILES)
def test_a_model_is_scored_as_its_file_says(
    views: dict[str, Any], world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = EvalViewSpec(size=SIZE, **views)
    network = save_deit(world.folder / "deit", 24, **scored_in(spec))
    images, labels = images_and_labels(world.folder, spec)
    model = str(world.folder / "deit")
    found = evaluate(world.evaluate(model=model, views={}), solo_job())
    assert found == pytest.approx(dense_scores(dense_logits(network, images), labels) | {"class_names_compared": 0})
    assert f"scored in views of {spec}\n" in capsys.readouterr().err
    assert found == evaluate(world.evaluate(model=model, views=spec.model_dump()), solo_job())


ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {"mode": "squash", "crop_pct": 0.5, "interpolation": "bilinear"}),
    "a crop": ({"crop_pct": 0.25}, {"mode": "squash", "crop_pct": 0.25, "interpolation": "bilinear"}),
    "another mode": ({"mode": "center"}, {"mode": "center", "crop_pct": 0.875, "interpolation": "bilinear"}),
    "the same mode": ({"mode": "squash"}, {"mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"}),
    "a filter": ({"interpolation": "bicubic"}, {"mode": "squash", "crop_pct": 0.5, "interpolation": "bicubic"}),
}


@pytest.mark.parametrize(("asked", "expected"), ASKED.values(), ids=ASKED)
def test_a_recipes_word_comes_before_the_files(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    said = EvalViewSpec(size=SIZE, mode="squash", crop_pct=0.5, interpolation="bilinear")
    assert str(ModelViewSpec(**asked).over(said)) == str(EvalViewSpec(size=SIZE, **expected))


def test_a_file_that_says_nothing_is_scored_in_its_centre(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """As it was before files could say: so also those of runs that squashed, whose recipe.yaml alone knows."""
    evaluate(world.evaluate(model=str(world.folder / "teacher"), views={}), solo_job())
    said = f"views of {SIZE} pixels, center, crop_pct 0.875, bicubic (the model's file names none)"
    assert said in capsys.readouterr().err


def test_where_recipe_and_file_differ_both_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    save_deit(world.folder / "deit", 24, **scored_in(EvalViewSpec(size=SIZE, mode="squash")))
    evaluate(world.evaluate(model=str(world.folder / "deit"), views={"mode": "center"}), solo_job())
    told = capsys.readouterr().err
    assert (
        f"{SIZE} pixels, center, crop_pct 0.875, bicubic (the model's file: {SIZE} pixels, squash, crop_pct 1" in told
    )


def test_a_run_writes_how_it_was_scored_into_its_file(world: World) -> None:
    views = {"size": SIZE, "mode": "squash", "interpolation": "bilinear"}
    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": views}
    trained = finetune(world.finetune(eval=evaluation), solo_job())
    scored = evaluate(world.evaluate(model=str(world.folder / "finetuned"), views={}), solo_job())
    assert {name: trained[name] for name in scored} == scored


def scored_in(views: EvalViewSpec) -> dict[str, Any]:
    return {"crop_mode": views.mode, "crop_pct": views.crop_fraction, "interpolation": views.interpolation}


def save_loud(folder: Path, factor: float) -> None:
    """A DeiT whose MLPs give numbers larger than float16 has, and whose answers float32 holds."""
    network = save_deit(folder, 24)
    state = network.state_dict()
    state["blocks.0.mlp.fc2.weight"] = state["blocks.0.mlp.fc2.weight"] * factor
    save_model(folder / "model.safetensors", state, load_model_file(folder)[1] or pytest.fail("no card"))


def test_answers_that_float16_cannot_hold_are_scored_in_float32(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    save_loud(world.folder / "deit", 1e6)
    model = str(world.folder / "deit")
    in_half = evaluate(world.evaluate(model=model, runtime={"workers": 0, "precision": "float16"}), solo_job())
    assert "in float16 the answers to 96 samples are not finite: scoring again in float32" in capsys.readouterr().err
    assert in_half == evaluate(world.evaluate(model=model), solo_job())


def test_answers_that_are_no_numbers_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    save_loud(world.folder / "deit", float("inf"))
    evaluate(world.evaluate(model=str(world.folder / "deit")), solo_job())
    assert "answers to 96 samples are NaN or infinite: these scores mean nothing" in capsys.readouterr().err
