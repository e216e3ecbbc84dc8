"""Classification heads: which modules they are, the logits of each, and maps to other class lists."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.called import answered

ClassMap = npt.NDArray[np.int64]  # [target classes]: row of the source head, -1 for a class that it lacks


def remap_rows(rows: torch.Tensor, class_map: ClassMap) -> torch.Tensor:
    """Rows of a head's weight [C, D] or bias [C] in the target's order.

    A class that the source lacks gets the mean of the rows that were found. The official code does so for the one
    ImageNet-1k class that fall11 lacks (TinyViT/utils.py, ``load_pretrained``). At least one row must be found.
    """
    index = torch.from_numpy(class_map)
    assert bool((index >= 0).any()), "a map that finds no class gives no rows, and no mean of rows"
    found = rows[index[index >= 0]]
    extended = torch.cat([rows, found.mean(dim=0, keepdim=True)])
    return extended[index]  # -1 is the last row, the mean


def select_columns(logits: torch.Tensor, class_map: ClassMap | torch.Tensor) -> torch.Tensor:
    """Logits [B, source classes] to [B, target classes]; zero for classes that the source lacks.

    Args:
        class_map: as a tensor on the logits' device where this is called often: otherwise it is copied there each time,
            for which the host waits.
    """
    index = torch.as_tensor(class_map, device=logits.device)
    return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)[:, index]


def head_modules(network: nn.Module) -> list[str]:
    """Names of the modules that output a network's logits: one, or two for networks distilled as DeiT is."""
    found = answered(network)
    config = getattr(network, "pretrained_cfg", None)  # absent if TinyVit was built from widths
    if found is not None and config is None:
        return list(found.heads)
    classifiers = config["classifier"] if config else "head.fc"
    names = (classifiers,) if isinstance(classifiers, str) else classifiers
    own = dict(network.named_modules())
    return [name for name in names if name in own]


def distilled_heads(network: nn.Module) -> dict[str, str]:
    """The two heads of a network with a distillation head, by short name: head, head_dist. Empty for other networks.

    timm also lists two modules where both belong to one classifier (CrossViT's branches, VOLO's auxiliary head). Those
    are not a class head and a distillation head.
    """
    by_name = {_short_name(module): module for module in head_modules(network)}
    return by_name if by_name.keys() == {"head", "head_dist"} else {}


def forward_heads(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A network's logits [B, C] and, if it has a distillation head, those of each of its two heads by short name.

    In evaluation mode timm's networks return the mean of both heads' logits, so hooks catch each head's own. Compiled
    code would not call the hooks; such networks are therefore run without ``torch.compile`` here.
    """
    heads = distilled_heads(network)
    if not heads:
        return network(images), {}
    caught: dict[str, torch.Tensor] = {}
    with ExitStack() as hooks:
        for name, module in heads.items():
            hook = network.get_submodule(module).register_forward_hook(partial(_catch, caught, name))
            hooks.callback(hook.remove)
        logits: torch.Tensor = network.forward(images)
    return logits, {name: caught[name] for name in heads}


def class_probabilities(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A network's answer, float32 [B, C]: the softmax of its logits or, with a distillation head, both heads' mean."""
    logits, by_head = forward_heads(network, images)
    heads = list(by_head.values()) or [logits]
    return torch.stack([each.float().softmax(dim=1) for each in heads]).mean(dim=0)


def freeze_body(network: nn.Module) -> None:
    """Freeze all parameters except those of the heads.

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


def _short_name(module: str) -> str:
    """``head`` for head.linear and head.head.l, ``head_dist`` for head.head_dist.l."""
    return next((part for part in reversed(module.split(".")) if part.startswith("head")), module)


def _catch(caught: dict[str, torch.Tensor], name: str, _: nn.Module, __: object, logits: torch.Tensor) -> None:
    caught[name] = logits
