"""What an optimiser keeps of each parameter, before there is any."""

from __future__ import annotations

import torch
from torch import nn

from tinyvit_kd.config.optim import ADAMW, OptimConfig
from tinyvit_kd.training.optim import parameter_groups
from tinyvit_kd.training.timm_optimizers import takes_fallback, timm_optimizer

_SIDE = 64  # of a stand-in at most: optimisers that factor their moments do so from 16 or 32 on


def state_bytes(network: nn.Module, config: OptimConfig) -> int:
    """Bytes of the moments that an optimiser will keep of a network's trained parameters; numbers do not count.

    AdamW keeps two of each parameter. Of the others, one step is made with small stand-ins of as many dimensions: a
    moment of a stand-in's shape will have its parameter's. Factors are far smaller, and count as those of a stand-in.

    Args:
        network: on any device, the meta device, too.

    Raises:
        ConfigError: see ``timm_optimizers.require_optimizer``.
    """
    if config.name == ADAMW and not config.kwargs.get("amsgrad"):
        return 8 * sum(each.numel() for each in network.parameters() if each.requires_grad)
    groups = parameter_groups(
        network, config.weight_decay, config.layer_decay, says_fallback=takes_fallback(config.name)
    )
    sizes: dict[torch.Tensor, int] = {}
    for group in groups:
        small = [_stand_in(each) for each in group["params"]]
        sizes.update((each, whole.numel()) for each, whole in zip(small, group["params"], strict=True))
        group["params"] = small
    optimizer = timm_optimizer(groups, config, config.base_lr)
    optimizer.step()
    kept = [(parameter, value) for parameter, state in optimizer.state.items() for value in state.values()]
    return sum(
        value.element_size() * (sizes[parameter] if value.shape == parameter.shape else value.numel())
        for parameter, value in kept
        if torch.is_tensor(value) and value.ndim
    )


def _stand_in(parameter: nn.Parameter) -> nn.Parameter:
    small = nn.Parameter(torch.zeros([min(side, _SIDE) for side in parameter.shape]))
    small.grad = torch.zeros_like(small)
    return small
