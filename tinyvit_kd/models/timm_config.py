"""``config.json`` beside a model file: with it timm builds, loads and feeds the network as it was scored.

``timm.create_model("local-dir:RUN", pretrained=True)`` reads both, and ``timm.data.resolve_model_data_config`` then
gives the input's size, mean and deviation, and the crop and filter of evaluation. The fields are timm's own, as in
``timm.models.save_for_hf``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.families import tiny_vit_arguments
from tinyvit_kd.models.modelfile import ModelCard, StateDict
from tinyvit_kd.runtime.files import atomic_write

TIMM_CONFIG = "config.json"
_OF_THE_NETWORK = ("classifier", "first_conv", "pool_size", "fixed_input_size")
_ANY_WIDTHS = "tiny_vit_5m_224"  # timm's networks take other widths as arguments


def save_timm_config(path: Path, state: StateDict, card: ModelCard, fsync: bool = False) -> None:
    """Write the description, unless timm has no such network."""
    del state
    config = timm_config(card)
    if config is not None:
        atomic_write(path, (json.dumps(config, indent=2) + "\n").encode(), fsync)


def timm_config(card: ModelCard) -> dict[str, Any] | None:
    """What timm has to know of a network; None if it is none of timm's."""
    name, arguments = _timm_network(card.spec)
    own = timm.get_pretrained_cfg(name) if name is not None and timm.is_model(name) else None
    if name is None or own is None:
        return None
    views = card.eval_views
    config: dict[str, Any] = {"architecture": name.partition(".")[0], "num_classes": card.num_classes}
    if arguments:
        config["model_args"] = arguments
    if card.class_ids is not None:
        config["label_names"] = list(card.class_ids)
    config["pretrained_cfg"] = {
        "num_classes": card.num_classes,
        "input_size": [3, views.size, views.size],
        "mean": list(card.mean),
        "std": list(card.std),
        "crop_mode": views.mode,
        "crop_pct": views.crop_fraction,
        "interpolation": views.interpolation,
        **{field: getattr(own, field) for field in _OF_THE_NETWORK},
    }
    return config


def _timm_network(spec: ModelSpec) -> tuple[str | None, dict[str, Any]]:
    """timm's name of a network, and the arguments that it takes beside that name."""
    if spec.tiny_vit is not None:
        return _ANY_WIDTHS, {**tiny_vit_arguments(spec.tiny_vit), **spec.kwargs}
    return spec.name, dict(spec.kwargs)
