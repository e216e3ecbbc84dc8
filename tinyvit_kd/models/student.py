"""Students: a network, and where its first weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer import checkpoint_filter_fn as fit_position_embedding
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.config.models import ModelSpec, StudentConfig
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.head import ClassMap, remap_rows
from tinyvit_kd.models.modelfile import ModelCard, State, load_model_file
from tinyvit_kd.models.network import build_network
from tinyvit_kd.models.official import to_timm


@dataclass(frozen=True)
class Initial:
    """Weights to start from.

    Attributes:
        state: under timm's names or official ones.
        class_map: where each of the new head's classes lies in the old one; None: keep the head if it fits.
        fresh_head: set the head to zero, whatever the weights have.
    """

    state: State
    class_map: ClassMap | None = None
    fresh_head: bool = False


def student_spec(config: StudentConfig, card: ModelCard | None) -> ModelSpec:
    """The architecture: the recipe's, else that of the file to start from.

    Raises:
        CheckpointError: neither says.
    """
    if config.name is not None or config.tiny_vit is not None:
        return ModelSpec.model_validate(config.model_dump(include=set(ModelSpec.model_fields)))
    if card is None:
        raise CheckpointError(
            "the file to start from does not say which network it holds",
            where=str(config.init_from),
            fix="name the network: student.name or student.tiny_vit",
        )
    changes = {} if config.drop_path_rate is None else {"drop_path_rate": config.drop_path_rate}
    return card.spec.model_copy(update=changes)


def build_student(
    config: StudentConfig, spec: ModelSpec, num_classes: int, image_size: int, seed: int, initial: Initial | None
) -> nn.Module:
    """A student with weights from ``initial``, or random ones that follow from ``seed``.

    Raises:
        ConfigError: the network cannot be built.
        CheckpointError: the weights belong to another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(spec, num_classes, image_size)
    if initial is not None:
        load_into(network, initial, where=str(config.init_from))
    if config.grad_checkpointing:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    return network


def load_into(network: nn.Module, initial: Initial, where: str) -> None:
    """Load weights, resized to the network's resolution; the head is kept, remapped, or set to zero.

    A head that neither fits nor can be remapped becomes zero, as in the official code.

    Raises:
        CheckpointError: naming the tensors that are missing, left over, or of another shape.
    """
    state = fit_resolution(to_timm(dict(initial.state)), network)
    own = network.state_dict()
    for name in head_names(network):
        if name in state:
            state[name] = _head_rows(state[name], own[name], initial)
    problems = _differences(state, own)
    if problems:
        raise CheckpointError(
            "the weights belong to another network",
            where=where,
            found="; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else ""),
            fix="correct student.name or student.tiny_vit, or student.init_from",
        )
    network.load_state_dict(state)


def fit_resolution(state: State, network: nn.Module) -> State:
    """Resize what depends on the resolution: attention biases and position embeddings, bicubically.

    Attention biases as in the official ``load_pretrained`` (TinyViT/utils.py): without antialiasing, which timm's
    own filter has, and which gives other values.
    """
    own = network.state_dict()
    resized = {
        name: resize_attention_biases(value, own[name].shape[1])
        if name.endswith("attention_biases") and name in own and value.shape[1] != own[name].shape[1]
        else value
        for name, value in state.items()
    }
    if isinstance(network, VisionTransformer):
        resized = fit_position_embedding(resized, network)
    return resized


def resize_attention_biases(biases: torch.Tensor, length: int) -> torch.Tensor:
    """Attention biases [heads, S²] to [heads, length], both square."""
    heads, old = biases.shape
    old_side, side = round(old**0.5), round(length**0.5)
    square = biases.float().view(1, heads, old_side, old_side)
    return F.interpolate(square, (side, side), mode="bicubic").view(heads, length).to(biases.dtype)


def head_names(network: nn.Module) -> list[str]:
    """Names of the weights and biases of the classification head (of both, for DeiT's distilled ones)."""
    config = getattr(network, "pretrained_cfg", None)
    classifiers = config["classifier"] if config else "head.fc"
    modules: Sequence[str] = (classifiers,) if isinstance(classifiers, str) else classifiers
    return [f"{module}.{part}" for module in modules for part in ("weight", "bias")]


def open_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """A network with the weights of a model file that says what it is.

    Raises:
        CheckpointError: the file is missing, damaged, or does not say which network it holds.
    """
    state, card = load_model_file(path)
    if card is None:
        raise CheckpointError(
            "a model file does not say which network it holds",
            where=str(path),
            expected="a model.safetensors that a stage of this package wrote",
        )
    network = build_network(card.spec, card.num_classes, card.image_size)
    load_into(network, Initial(state), where=str(path))
    return network, card


def _head_rows(rows: torch.Tensor, own: torch.Tensor, initial: Initial) -> torch.Tensor:
    if initial.fresh_head:
        return torch.zeros_like(own)
    if initial.class_map is not None:
        return remap_rows(rows, initial.class_map)
    return rows if rows.shape == own.shape else torch.zeros_like(own)


def _differences(state: State, own: State) -> list[str]:
    missing = [f"{name} is missing" for name in own if name not in state]
    surplus = [f"{name} is left over" for name in state if name not in own]
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return shapes + missing + surplus
