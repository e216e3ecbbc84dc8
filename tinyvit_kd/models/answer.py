"""A network's answer in evaluation mode: to views, which is what is compiled, and to one image, to see what it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Normalize = Callable[[torch.Tensor], torch.Tensor]


def answer(network: nn.Module, normalize: Normalize, views: torch.Tensor) -> torch.Tensor:
    """Views [B, 3, S, S], uint8 or float32 with levels 0..255, to float32 logits [B, C], on their device."""
    logits: torch.Tensor = network(normalize(views))
    return logits.float()


def ready_to_answer(network: nn.Module, device: torch.device) -> None:
    """Set a network to evaluation mode, with nothing in it that an earlier evaluation left.

    timm's TinyViT, LeViT and their like keep the attention biases of their first batch in evaluation mode. timm 1.0.15
    forgets them only when training begins, which an average of weights never does. And compiled code would be made
    twice, with the biases there and without; so they are there from the first batch on.
    """
    network.train()
    network.eval()
    with torch.no_grad():
        for module in network.modules():
            biases = getattr(module, "get_attention_biases", None)
            if biases is not None:
                biases(device)


def answer_once(network: nn.Module, image_size: int) -> object:
    """What a network gives for one image of zeros in evaluation mode; afterwards it is as it was.

    Args:
        image_size: side of the image, pixels.

    Raises:
        Exception: of any kind, from a network that takes no such image.
    """
    device = next((each.device for each in [*network.parameters(), *network.buffers()]), None)
    before = {each: each.training for each in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            given: object = network(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        network.train()  # timm's TinyViT keeps the attention biases of an evaluation until it trains
        for each, training in before.items():
            each.training = training
    return given
