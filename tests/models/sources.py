"""Trained networks as people have them: one function per kind of file, folder or name, all made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_for_hf
from torch import nn

from tests.models.networks import MEAN, STD
from tests.models.official_tiny_vit import to_official
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.export import export_student
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model

SIDE, CLASSES = 32, 5
TINY_VIT, DEIT, HUB = "tiny_vit_5m_224", "deit_tiny_distilled_patch16_224", "test_vit.r160_in1k"
KWARGS: dict[str, dict[str, Any]] = {
    TINY_VIT: {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 1, 1]},
    DEIT: {"depth": 1, "embed_dim": 24, "num_heads": 2, "patch_size": 8},
}
NAMES = [f"class {number}" for number in range(CLASSES)]


@dataclass(frozen=True)
class Source:
    """A network, and how a recipe names it.

    Attributes:
        network: in evaluation mode, as its author has it.
        file: of the weights; None where they are fetched.
        named: what a recipe has to say beside the file, and the same for a student.
        mean, std: that it was trained with, where anything says so.
    """

    network: nn.Module
    file: Path | None
    named: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def network(name: str, classes: int = CLASSES, seed: int = 3) -> nn.Module:
    """A small one by timm's name, none of whose weights has a special value."""
    built = build_network(ModelSpec(name=name, kwargs=KWARGS[name]), classes, SIDE, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*built.parameters(), *built.buffers()):
            if tensor.is_floating_point() and tensor.ndim <= 2:
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
    return built


def _card(name: str) -> ModelCard:
    architecture = ModelSpec(name=name, kwargs=KWARGS[name]).model_dump(mode="json")
    return ModelCard(architecture=architecture, num_classes=CLASSES, image_size=SIDE, mean=MEAN, std=STD)


def _named(name: str) -> dict[str, Any]:
    """What a recipe says of a file that says nothing."""
    facts = {"num_classes": CLASSES, "image_size": SIDE, "mean": MEAN, "std": STD}
    return {"name": name, "kwargs": KWARGS[name], **facts}


def run_folder(folder: Path) -> Source:
    """As our stages leave it, but for config.json."""
    built = network(TINY_VIT)
    save_model(folder / "model.safetensors", built.state_dict(), _card(TINY_VIT))
    return Source(built, folder)


def exported_folder(folder: Path) -> Source:
    """As our stages leave it, config.json included."""
    built = network(DEIT)
    export_student(folder, built.state_dict(), _card(DEIT))
    return Source(built, folder)


def timms_folder(folder: Path, safe: bool = True, names: list[str] = NAMES) -> Source:
    """As timm's save_for_hf leaves somebody's network."""
    built = network(TINY_VIT, len(names))
    kept: dict[str, Any] = {"input_size": [3, SIDE, SIDE], "mean": MEAN, "std": STD, "crop_pct": 0.5}
    arguments = {**KWARGS[TINY_VIT], "num_classes": len(names)}
    config = {"pretrained_cfg": kept, "label_names": names}
    save_for_hf(built, str(folder), model_config=config, model_args=arguments, safe_serialization=safe)
    return Source(built, folder)


def timms_pickled_folder(folder: Path) -> Source:
    """The same without safetensors."""
    return timms_folder(folder, safe=False)


def file_in_timms_folder(folder: Path) -> Source:
    """The file itself, with config.json beside it."""
    source = timms_folder(folder)
    return Source(source.network, folder / "model.safetensors")


def hub_snapshot_of_old(folder: Path) -> Source:
    """A description of the time when all of its fields stood side by side."""
    source = timms_folder(folder)
    written = json.loads((folder / "config.json").read_text())
    flat = {"architecture": TINY_VIT, "num_classes": CLASSES, "label_names": NAMES, **written["pretrained_cfg"]}
    (folder / "config.json").write_text(json.dumps(flat))
    return Source(source.network, folder, {"kwargs": KWARGS[TINY_VIT]})


def plain_safetensors(folder: Path) -> Source:
    """Weights alone."""
    built = network(DEIT)
    save_file(built.state_dict(), folder / "weights.safetensors")
    return Source(built, folder / "weights.safetensors", _named(DEIT))


def official_tiny_vit(folder: Path) -> Source:
    """TinyViT's own code: its names, its indices of biases, its settings."""
    built = network(TINY_VIT)
    state = {to_official(name): value for name, value in built.state_dict().items()}
    state |= {f"layers.{stage}.blocks.0.attn.attention_bias_idxs": torch.zeros(4, 4).long() for stage in (1, 2, 3)}
    torch.save({"model": state, "epoch": 3, "max_accuracy": 80.7}, folder / "official.pth")
    return Source(built, folder / "official.pth", _named(TINY_VIT))


def official_deit(folder: Path) -> Source:
    """DeiT's own code: its average first, and both heads."""
    built = network(DEIT)
    noise = {name: torch.rand_like(value) for name, value in built.state_dict().items()}
    torch.save({"model": noise, "model_ema": built.state_dict(), "epoch": 3}, folder / "deit.pth")
    return Source(built, folder / "deit.pth", _named(DEIT))


def pretrained_name(folder: Path) -> Source:
    """A name whose weights lie in the hub's cache, as after a first download."""
    built = timm.create_model(HUB, drop_rate=0.0).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in built.parameters():
            parameter.data += torch.rand_like(parameter) * 0.05
    config: dict[str, Any] = built.pretrained_cfg
    cached = folder / f"models--{config['hf_hub_id'].replace('/', '--')}"
    commit = "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    save_for_hf(built, str(cached / "snapshots" / commit), safe_serialization=True)
    named = {"name": HUB, "pretrained": True}
    return Source(built, None, named, config["mean"], config["std"])


def hub_repository(folder: Path) -> Source:
    """A repository of the hub by its own name."""
    source = pretrained_name(folder)
    return replace(source, named={"name": f"hf-hub:timm/{HUB}", "pretrained": True})


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that cannot be reached; returns the folder of its cache."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


FILES: dict[str, Callable[[Path], Source]] = {
    "run folder": run_folder,
    "exported folder": exported_folder,
    "timm's folder": timms_folder,
    "timm's folder, pickled": timms_pickled_folder,
    "file in timm's folder": file_in_timms_folder,
    "old description": hub_snapshot_of_old,
    "plain safetensors": plain_safetensors,
    "official TinyViT": official_tiny_vit,
    "official DeiT": official_deit,
}
SOURCES = FILES | {"pretrained name": pretrained_name, "hub repository": hub_repository}
