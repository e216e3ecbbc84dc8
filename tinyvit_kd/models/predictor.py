"""From views to probabilities, whatever a network's file is: one function for torch's networks, one for ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tinyvit_kd.models.answer import ready_to_answer
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.onnx_file import open_onnx
from tinyvit_kd.models.head import class_probabilities
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.normalizer import Normalizer

Predictor = Callable[[torch.Tensor], torch.Tensor]  # uint8 views [B, 3, S, S] to probabilities, float32 [B, C]


def predict_views(network: nn.Module, normalize: Normalizer, views: torch.Tensor) -> torch.Tensor:
    """Probabilities of the classes, float32 [B, C] on the network's device.

    A network with a distillation head answers with the mean of both heads' softmax, as ``evaluate`` scores it.

    Args:
        network: in evaluation mode.
        views: uint8 [B, 3, S, S], on any device.
    """
    with torch.inference_mode():
        return class_probabilities(network, normalize(views.to(normalize.scale.device)))


def network_predictor(network: nn.Module, card: ModelCard, device: torch.device) -> Predictor:
    """Of a network, which is moved to the device."""
    ready_to_answer(network.to(device), device)
    normalize = Normalizer(card.mean, card.std, device)
    return lambda views: predict_views(network, normalize, views)


def onnx_predictor(path: Path, device: torch.device) -> tuple[Predictor, Description]:
    """Of an ONNX file of ours, and what the file says of itself.

    Raises:
        ConfigError, CheckpointError: as ``exporting.onnx_file.open_onnx``.
    """
    network, description = open_onnx(path, device)
    if description.input_kind == "uint8":
        return lambda views: network(views).softmax(dim=1), description
    normalize = Normalizer(description.card.mean, description.card.std, torch.device("cpu"))
    return lambda views: network(normalize(views.cpu())).softmax(dim=1), description
