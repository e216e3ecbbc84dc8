"""AdamW, its parameter groups and its learning rates, as in TinyViT's and DeiT's recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from timm.models import group_parameters
from timm.models.tiny_vit import TinyVit
from timm.optim import auto_group_layers
from torch import nn

from tinyvit_kd.config.training import OptimConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.training.learning_rate import scaled_rates

DIST_TOKEN = "dist_token"


def build_optimizer(
    model: nn.Module, config: OptimConfig, global_batch_size: int, *, dist_token_decays: bool = True
) -> torch.optim.Optimizer:
    """AdamW over the model's trainable parameters, with the fused kernel."""
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, config.layer_decay, dist_token_decays=dist_token_decays),
        lr=scaled_rates(config, global_batch_size).peak,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float, *, dist_token_decays: bool = True
) -> list[dict[str, Any]]:
    """Optimiser groups of the parameters that share a weight decay and a rate scale (``lr_scale``).

    1-D tensors, biases and what the model itself names (attention biases, position embeddings) do not decay. timm names
    the distillation token, too, but in DeiT's own code it decays (facebookresearch/deit, main.py, models.py: its class
    adds the token, and leaves ``no_weight_decay`` at position embeddings and class token).
    """
    scales = layer_scales(model, layer_decay)
    is_exempt = _exempt_by_model(model, {DIST_TOKEN} if dist_token_decays else set())
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 or name.endswith(".bias") or is_exempt(name) else weight_decay
        key = (scales[name], decay)
        group = groups.setdefault(key, {"params": [], "lr_scale": key[0], "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def dist_token_decays_in(saved: Mapping[str, Any], model: nn.Module, config: OptimConfig) -> bool:
    """Whether the distillation token decays in a checkpoint's optimiser; it did not in runs begun before 2026-11-30.

    Args:
        saved: the optimiser's state. It names no parameters, but its groups have other sizes.
    """
    sizes = [len(group["params"]) for group in saved["param_groups"]]
    before, now = (
        [len(group["params"]) for group in parameter_groups(model, config.weight_decay, config.layer_decay, **which)]
        for which in ({"dist_token_decays": False}, {"dist_token_decays": True})
    )
    return sizes != before or before == now


def layer_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Factor on the learning rate of each parameter, by name; 1 for the head."""
    if layer_decay == 1:
        return {name: 1.0 for name, _ in model.named_parameters()}
    depths = _tiny_vit_depths(model) if isinstance(model, TinyVit) else _timm_depths(model)
    deepest = max(depths.values())
    return {name: layer_decay ** (deepest - depth) for name, depth in depths.items()}


def _tiny_vit_depths(model: TinyVit) -> dict[str, int]:
    """Index of the block that each parameter belongs to, counted through all stages.

    The official numbering (TinyViT/models/tiny_vit.py, ``set_layer_lr_decay``): the stem has the depth of the
    first block, a downsampling layer that of the block before it, the head that of the last block. timm puts the
    downsampling layer into the stage that it leads to.
    """
    first_blocks = [sum(model.depths[:stage]) for stage in range(len(model.depths))]
    depths = {}
    for name, _ in model.named_parameters():
        path = name.split(".")
        if path[0] == "patch_embed":
            depths[name] = 0
        elif path[0] == "head":
            depths[name] = sum(model.depths) - 1
        elif path[2] == "downsample":
            depths[name] = first_blocks[int(path[1])] - 1
        else:
            depths[name] = first_blocks[int(path[1])] + int(path[3])
    return depths


def _timm_depths(model: nn.Module) -> dict[str, int]:
    """Depths in any other model: timm's grouping into layers, as in its ``param_groups_layer_decay``.

    Raises:
        ConfigError: it is none of timm's, and does not say which layers it has.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None and not hasattr(model, "pretrained_cfg"):
        raise ConfigError(
            "the layers of this network are not known, so that no layer decay can be applied",
            where="optim.layer_decay",
            found=f"{type(model).__name__}, which has no group_matcher as timm's networks have",
            fix="set it to 1, or give the network's class a method group_matcher",
        )
    depths: dict[str, int] = (
        auto_group_layers(model) if matcher is None else group_parameters(model, matcher(coarse=False), reverse=True)
    )
    return depths


def _exempt_by_model(model: nn.Module, but: set[str]) -> Callable[[str], bool]:
    """A function that says whether the model itself exempts a parameter from weight decay, by name or by pattern.

    Args:
        but: names that decay nevertheless.
    """
    named = getattr(model, "no_weight_decay", None)
    patterns = set(named()) - but if named is not None else set()
    return lambda name: any(fnmatch(name, pattern) for pattern in patterns)
