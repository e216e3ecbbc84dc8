"""A score is what a dense computation over all images gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.tiny_world import SIZE, World
from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.views.render import render_eval

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


def images_and_labels(folder: Path) -> tuple[torch.Tensor, np.ndarray]:
    """Every image of a shard set as the network gets it, and every label."""
    shards = ShardSet.load(folder / "shards", "train")
    reader = shards.reader()
    spec = EvalViewSpec(size=SIZE)
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
        "samples": len(labels),
        "left_out": 0,
        "unlabelled": 0,
        "undecodable": 0,
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
    assert f"top-1 {found['top1']:.2f} % (head {found['top1_head']:.2f} %, head_dist" in capsys.readouterr().err


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
