"""First weights: loading a state dict of another resolution, head or naming into a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models.tiny_vit import TinyVit
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.differences import differences
from tinyvit_kd.models.fit_names import FittedWeights, find_network
from tinyvit_kd.models.head import ClassMap, head_modules, remap_rows
from tinyvit_kd.models.modelfile import StateDict
from tinyvit_kd.models.official import to_timm
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from, and what happens to their head.

    Attributes:
        state: under timm's names or official ones.
        class_map: for each class of the new head, its row in the old one; None: keep the head if it fits.
        source_classes: length of the class list that ``class_map`` was made from; the old head must have as many rows.
        fresh_head: set the head to zero, whatever the weights hold.
        exact_head: refuse a head of another shape. The official code sets such a head to zero, which is the default.
    """

    state: StateDict
    class_map: ClassMap | None = None
    source_classes: int | None = None
    fresh_head: bool = False
    exact_head: bool = False


def load_into(network: nn.Module, initial: InitialWeights, where: str) -> None:
    """Load weights, resized to the network's resolution; the head is kept, remapped, or set to zero.

    A line says what was stripped from the weights' names, what was left out, and that a head starts at zero where
    nobody asked for that.

    Args:
        where: the file that they came from, for messages.

    Raises:
        CheckpointError: naming the tensors that are missing, unexpected, or of another shape; or there is no head in
            the weights, and it has to come from them.
    """
    own = network.state_dict()
    heads = head_names(network)
    found = find_network(initial.state, own, heads, lambda state: _fit_to_network(state, network))
    state = dict(found.state)
    notes = [found.story]
    if not heads and (initial.fresh_head or initial.class_map is not None):
        raise _no_known_head(network)
    if initial.fresh_head or _has_no_head(found, heads):
        if not initial.fresh_head:
            notes.append(_headless(initial, heads, where))
        state |= {name: torch.zeros_like(own[name]) for name in heads}
    else:
        for name in heads:
            if name in state:
                rows, state[name] = state[name], _head_rows(state[name], own[name], initial, where)
                if name == heads[0] and initial.class_map is None and state[name].shape != rows.shape:
                    notes.append(f"its head of {len(rows)} classes does not fit, the new one starts at zero")
    _require_same(state, own, where)
    network.load_state_dict(state)
    if told := "; ".join(filter(None, notes)):
        note(f"{where}: {told}")


def fit_resolution(state: StateDict, network: nn.Module) -> StateDict:
    """Resize what depends on the resolution (attention biases, position embeddings), bicubically.

    TinyViT's and DeiT's are resized as published. Other networks use their own filter in timm, which also translates
    the names in their authors' checkpoints.
    """
    if isinstance(network, TinyVit):
        return _fit_attention_biases(state, network.state_dict())
    if isinstance(network, VisionTransformer):
        state = _fit_position_embeddings(state, network)
    module = inspect.getmodule(type(network))
    fit: Callable[[StateDict, nn.Module], StateDict] | None = getattr(module, "checkpoint_filter_fn", None)
    return state if fit is None else fit(state, network)


def resize_attention_biases(biases: torch.Tensor, length: int) -> torch.Tensor:
    """Attention biases [heads, S²] to [heads, length]; ``length`` is a square, too.

    As in the official ``load_pretrained`` (TinyViT/utils.py), without antialiasing. timm's own filter antialiases and
    gives other values.
    """
    heads, old = biases.shape
    old_side = round(old**0.5)
    side = round(length**0.5)
    square = biases.float().reshape(1, heads, old_side, old_side)
    return F.interpolate(square, (side, side), mode="bicubic").view(heads, length).to(biases.dtype)


def resize_position_embeddings(embeddings: torch.Tensor, prefix: int, grid: tuple[int, int]) -> torch.Tensor:
    """Position embeddings [1, prefix + S², D] to [1, prefix + rows x columns, D]; the first ``prefix`` do not change.

    As in DeiT's main.py ("interpolate position embedding"), without antialiasing; timm's own filter antialiases.
    """
    tokens = embeddings[:, :prefix]
    patches = embeddings[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    width = patches.shape[2]
    square = patches.float().reshape(1, side, side, width).permute(0, 3, 1, 2)
    resized = F.interpolate(square, grid, mode="bicubic", align_corners=False)
    return torch.cat([tokens, resized.permute(0, 2, 3, 1).flatten(1, 2).to(embeddings.dtype)], dim=1)


def head_names(network: nn.Module) -> list[str]:
    """Names of the weight and bias of the classification head, or of both heads of a distilled network."""
    names = [f"{module}.{part}" for module in head_modules(network) for part in ("weight", "bias")]
    own = network.state_dict()
    return [name for name in names if name in own]


def _fit_to_network(state: StateDict, network: nn.Module) -> StateDict:
    """The state under timm's names and at the network's resolution; unchanged if that fails.

    Filters may raise anything on the weights of another network. The comparison that follows refuses such weights and
    says how they differ.
    """
    try:
        return fit_resolution(to_timm(dict(state)), network)
    except Exception:
        return dict(state)


def _has_no_head(found: FittedWeights, heads: list[str]) -> bool:
    return bool(heads) and found.body_complete and not any(name in found.state for name in heads)


def _headless(initial: InitialWeights, heads: list[str], where: str) -> str:
    """What to tell of weights without a head; those that need theirs are refused."""
    if not initial.exact_head:
        return "there is no classifier in it, the head starts at zero"
    raise CheckpointError(
        "the weights have no classifier: they are a backbone, which gives no probabilities",
        where=where,
        found=f"all tensors of the network but {', '.join(heads)}",
        fix="train a classifier on it first (finetune, with this file as student.init_from) and use that run, or name "
        "a file that has its classifier",
    )


def _no_known_head(network: nn.Module) -> ConfigError:
    return ConfigError(
        "the network has no classifier that is known, so that its classes cannot be mapped, nor started anew",
        where="student.head, student.class_list",
        found=f"{type(network).__name__}, whose last operation has no weights",
        fix="let its last operation be one linear layer; or use the same classes, and leave student.head as it is",
    )


def _fit_attention_biases(state: StateDict, own: StateDict) -> StateDict:
    return {
        name: resize_attention_biases(value, own[name].shape[1])
        if name.endswith("attention_biases") and name in own and value.shape[1] != own[name].shape[1]
        else value
        for name, value in state.items()
    }


def _fit_position_embeddings(state: StateDict, network: VisionTransformer) -> StateDict:
    embeddings = state.get("pos_embed")
    own = network.pos_embed
    if embeddings is None or own is None or embeddings.shape == own.shape:
        return state
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    rows, columns = network.patch_embed.grid_size
    return state | {"pos_embed": resize_position_embeddings(embeddings, prefix, (rows, columns))}


def _head_rows(rows: torch.Tensor, own: torch.Tensor, initial: InitialWeights, where: str) -> torch.Tensor:
    if initial.class_map is not None:
        _require_rows(len(rows), initial.class_map, initial.source_classes, where)
        return remap_rows(rows, initial.class_map)
    return rows if initial.exact_head or rows.shape == own.shape else torch.zeros_like(own)


def _require_rows(rows: int, class_map: ClassMap, source_classes: int | None, where: str) -> None:
    needed = int(class_map.max()) + 1 if source_classes is None else source_classes
    if rows < needed or (source_classes is not None and rows != source_classes):
        raise CheckpointError(
            "the head to start from and its class list have different numbers of classes",
            where=where,
            found=f"{rows} classes in the head, {needed} in the list",
            fix="name the class list of that head in student.class_list, or set student.head to fresh",
        )


def _require_same(state: StateDict, own: StateDict, where: str) -> None:
    if found := differences(state, own):
        raise CheckpointError(
            "the weights belong to another network",
            where=where,
            found=printable(found),
            fix="correct the network's name, widths or number of classes, or the path of the weights",
        )
