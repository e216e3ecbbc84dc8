"""A network as a folder that timm, and whatever reads the hub's repositories of timm's, opens: three files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import _hub
from torch import nn

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.exporting.agreement import require_agreement
from tinyvit_kd.models.exporting.deployed import DeployedNetwork
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model
from tinyvit_kd.models.timm_config import TIMM_CONFIG, timm_config
from tinyvit_kd.runtime.files import atomic_write, read_small_json, write_json

MODEL_CARD = "README.md"  # the hub shows it
FILES = (MODEL, TIMM_CONFIG, MODEL_CARD)


def save_timm_folder(
    folder: Path, network: nn.Module, card: ModelCard, class_names: Sequence[str] | None, model_card: str
) -> float:
    """Write a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens, and open it so.

    Args:
        network: in evaluation mode, on the CPU.
        class_names: a readable name of each class, where its classes are known.
        model_card: in Markdown.

    Returns:
        the largest difference of two logits between the network and timm's, which is zero.

    Raises:
        ConfigError: timm has no such network by name.
        CheckpointError: what timm opens answers otherwise.
    """
    config = timm_config(card)
    if config is None:
        raise ConfigError(
            "timm cannot build this network by name",
            found=str(card.spec.name or card.spec.call),
            expected="one of timm's networks",
            fix="export it as onnx or torch-export, which hold its operations, too",
        )
    if card.class_ids is not None and class_names is not None:
        config["label_descriptions"] = dict(zip(card.class_ids, class_names, strict=True))
    config |= _for_readers(network)
    save_model(folder / MODEL, network.state_dict(), card)
    write_json(folder / TIMM_CONFIG, config)
    atomic_write(folder / MODEL_CARD, model_card.encode())
    theirs = DeployedNetwork(opened_by_timm(folder).eval(), card, "normalized")
    return require_agreement(DeployedNetwork(network, card, "normalized"), theirs, "what timm opens", bound=0.0)


def opened_by_timm(folder: Path) -> nn.Module:
    """What timm makes of a folder; before 1.0.16, which reads none, it is told what later ones read."""
    if hasattr(_hub, "load_model_config_from_path"):
        return _created(f"local-dir:{folder}")
    config = json.loads((folder / TIMM_CONFIG).read_text(encoding="utf-8"))
    described = config["pretrained_cfg"] | {"file": str(folder / MODEL)}
    return _created(config["architecture"], pretrained_cfg=described, **config.get("model_args", {}))


def _created(name: str, **arguments: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    return network


def _for_readers(network: nn.Module) -> dict[str, Any]:
    """What timm's own ``save_for_hf`` notes for people and other libraries; no loader needs it."""
    pool = getattr(network, "global_pool", None)
    noted = {"num_features": getattr(network, "num_features", None), "global_pool": pool}
    return {name: value for name, value in noted.items() if isinstance(value, int | str)}


def label_descriptions(model: Path) -> dict[str, str]:
    """Names of classes by id in the ``config.json`` of a folder of timm's; empty where there are none."""
    described = read_small_json(model / TIMM_CONFIG).get("label_descriptions")
    if not isinstance(described, dict):
        return {}
    return {name: text for name, text in described.items() if isinstance(text, str)}
