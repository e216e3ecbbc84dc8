"""A run folder, opened by timm alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
from torch import nn
from torch.torch_version import TorchVersion

TIMM_OPENS_FOLDERS = TorchVersion(timm.__version__) >= TorchVersion("1.0.16")


def opened_by_timm(folder: Path) -> nn.Module:
    """What ``local-dir:`` opens; timm before 1.0.16 is told what it would read."""
    if TIMM_OPENS_FOLDERS:
        return _created(f"local-dir:{folder}")
    config = json.loads((folder / "config.json").read_text())
    described = config["pretrained_cfg"] | {"label_names": config.get("label_names")}
    weights = {"file": str(folder / "model.safetensors")}
    return _created(config["architecture"], pretrained_cfg=described | weights, **config.get("model_args", {}))


def _created(name: str, **arguments: Any) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    return network
