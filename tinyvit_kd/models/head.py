"""Classification heads: which modules they are, what each says, and other class lists."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit_kd.errors import ConfigError

ClassMap = npt.NDArray[np.int64]  # [target classes]: row of the source head, -1 where it has none


def remap_rows(rows: torch.Tensor, class_map: ClassMap) -> torch.Tensor:
    """Rows of a head's weight [C, D] or bias [C] in the target's order.

    A class that the source lacks takes the mean of the rows that were found, as the official code does for the
    one ImageNet-1k class that fall11 lacks (TinyViT/utils.py, ``load_pretrained``). At least one must be found.
    """
    index = torch.from_numpy(class_map)
    assert bool((index >= 0).any()), "a map that finds no class has nothing to take rows or their mean from"
    found = rows[index[index >= 0]]
    extended = torch.cat([rows, found.mean(dim=0, keepdim=True)])
    return extended[index]  # -1 is the last row, the mean


def select_columns(logits: torch.Tensor, class_map: ClassMap) -> torch.Tensor:
    """Logits [B, source classes] to [B, target classes]; a constant zero where the source lacks a class."""
    index = torch.from_numpy(class_map).to(logits.device)
    return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)[:, index]


def head_modules(network: nn.Module) -> list[str]:
    """Names of the modules that give a network's logits: one, or two for DeiT's distilled networks and their like."""
    config = getattr(network, "pretrained_cfg", None)  # none where TinyVit was built from widths
    classifiers = config["classifier"] if config else "head.fc"
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    own = dict(network.named_modules())
    return [name for name in names if name in own]


def distilled_heads(network: nn.Module) -> dict[str, str]:
    """The two heads of a network with a distillation head: short name (head, head_dist) to module; else nothing.

    timm also lists two where both belong to one classifier (CrossViT's branches, VOLO's auxiliary head): those are
    no pair of a class and a distillation head.
    """
    named = {_short(module): module for module in head_modules(network)}
    return named if named.keys() == {"head", "head_dist"} else {}


def forward_heads(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A network's logits [B, C], and those of each of its two heads by short name, where it has a distillation head.

    In evaluation mode timm's networks give the mean of both heads' logits; what it is made of is caught at the heads.
    Such networks do not pass through ``torch.compile`` here, which would not see that.
    """
    heads, caught = distilled_heads(network), dict[str, torch.Tensor]()
    if not heads:
        return network(images), caught
    with ExitStack() as hooks:
        for name, module in heads.items():
            hook = network.get_submodule(module).register_forward_hook(partial(_catch, caught, name))
            hooks.callback(hook.remove)
        logits: torch.Tensor = network.forward(images)
    return logits, {name: caught[name] for name in heads}


def freeze_body(network: nn.Module) -> None:
    """Let nothing be trained but the heads.

    Raises:
        ConfigError: the network has no classification head.
    """
    names = head_modules(network)
    if not names:
        raise ConfigError(
            "the network has no classification head to train alone",
            where="train.trainable",
            found=type(network).__name__,
            fix="set it to all",
        )
    network.requires_grad_(False)
    for name in names:
        network.get_submodule(name).requires_grad_(True)


def _short(module: str) -> str:
    """head.linear and head.head.l are a head, head.head_dist.l is a head_dist."""
    return next((part for part in reversed(module.split(".")) if part.startswith("head")), module)


def _catch(caught: dict[str, torch.Tensor], name: str, _: nn.Module, __: object, logits: torch.Tensor) -> None:
    caught[name] = logits
