"""Weights of a contracted network: slices of its base's."""

from __future__ import annotations

import re
from math import prod
from typing import NamedTuple

import torch

from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.models.modelfile import StateDict

Grid = tuple[int, ...]
_WHOLE = "whole"

# Axes of weights by name; vectors, such as biases and batch norm's statistics, have the first of them alone. Axes
# that are not listed are whole: kernels of convolutions.
_RULES: dict[str, dict[str, tuple[str, ...]]] = {
    "tiny_vit": {
        r"patch_embed\.conv1\.(conv|bn)\.\w+": ("stem", _WHOLE),
        r"patch_embed\.conv2\.(conv|bn)\.\w+": ("width", "stem"),
        r"stages\.(?P<stage>0)\.blocks\.(?P<block>\d+)\.conv1\.(conv|bn)\.\w+": ("expanded", "width"),
        r"stages\.(?P<stage>0)\.blocks\.(?P<block>\d+)\.conv2\.(conv|bn)\.\w+": ("expanded", _WHOLE),
        r"stages\.(?P<stage>0)\.blocks\.(?P<block>\d+)\.conv3\.(conv|bn)\.\w+": ("width", "expanded"),
        r"stages\.(?P<stage>\d)\.downsample\.conv1\.(conv|bn)\.\w+": ("width", "width_before"),
        r"stages\.(?P<stage>\d)\.downsample\.conv2\.(conv|bn)\.\w+": ("width", _WHOLE),
        r"stages\.(?P<stage>\d)\.downsample\.conv3\.(conv|bn)\.\w+": ("width", "width"),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.attn\.qkv\.\w+": ("qkv", "width"),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.attn\.(norm|proj)\.\w+": ("width", "width"),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.attn\.attention_biases": ("heads", "offsets"),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.local_conv\.(conv|bn)\.\w+": ("width", _WHOLE),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.mlp\.fc1\.\w+": ("hidden", "width"),
        r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)\.mlp\.(norm|fc2)\.\w+": ("width", "hidden"),
        r"(?P<last>head\.norm)\.\w+": ("width",),
        r"(?P<last>head\.fc)\.\w+": (_WHOLE, "width"),
    },
    "vit": {
        r"(cls|dist|reg)_token|pos_embed": (_WHOLE, _WHOLE, "width"),
        r"patch_embed\.(proj|norm)\.\w+": ("width", _WHOLE),
        r"blocks\.(?P<block>\d+)\.attn\.qkv\.\w+": ("qkv", "width"),
        r"blocks\.(?P<block>\d+)\.attn\.(q_norm|k_norm)\.\w+": (_WHOLE,),
        r"blocks\.(?P<block>\d+)\.(norm1|norm2|ls1|ls2|attn\.norm|attn\.proj)\.\w+": ("width", "width"),
        r"blocks\.(?P<block>\d+)\.mlp\.(norm|fc1)\.\w+": ("hidden", "width"),
        r"blocks\.(?P<block>\d+)\.mlp\.fc2\.\w+": ("width", "hidden"),
        r"(norm_pre|norm|fc_norm)\.\w+": ("width",),
        r"(head|head_dist)\.\w+": (_WHOLE, "width"),
    },
}


class _Place(NamedTuple):
    """Where a tensor is in a network, and what its axes are."""

    axes: tuple[str, ...]
    stage: int
    block: int  # -1: in none


def inherit(state: StateDict, base: Shape, shape: Shape) -> StateDict:
    """Weights of ``shape`` from those of ``base``, which it was contracted from: the leading part of each tensor.

    - The leading channels of each width stay, in all that gives them and all that takes them: convolutions, linear
      layers, norms with their running statistics, class tokens, position embeddings, layer scale, the classifier.
    - So do the leading heads, whole: channels of attention belong to heads in their order. TinyViT's qkv has the rows
      of one head after those of another, so that the leading rows stay; ViT's has all queries, all keys, all values,
      and the leading rows of each of these three stay.
    - The leading hidden channels of MBConv blocks and MLPs stay.
    - The leading blocks of each stage stay.
    - A smaller window takes the attention biases of its own offsets. The table of a window of side w has those of
      (|dy|, |dx|) row by row, so the leading columns of the leading rows stay.

    All classes stay, and so do positions and kernels. Where nothing was lowered, tensors are those of ``state``
    itself, not copies.

    Args:
        state: as the base's ``state_dict`` has it.
    """
    assert (base.family, base.fixed) == (shape.family, shape.fixed)
    strange = without_rule(state, base)
    assert not strange, f"no rule for {', '.join(strange)}"
    inherited = {}
    for name, tensor in state.items():
        place = _place(base.family, name)
        assert place is not None
        if place.block < _depth(shape, place.stage):
            inherited[name] = _leading(tensor, place.axes, axes_of(base, place.stage), axes_of(shape, place.stage))
    return inherited


def without_rule(state: StateDict, shape: Shape) -> list[str]:
    """Names of the tensors which ``inherit`` cannot slice: unknown ones, and those of other sizes than it supposes."""
    strange = []
    for name, tensor in state.items():
        place = _place(shape.family, name)
        if place is None or not _has_axes(tensor, place.axes, axes_of(shape, place.stage)):
            strange.append(name)
    return strange


def axes_of(shape: Shape, stage: int) -> dict[str, Grid]:
    """What axes of weights consist of, by name, in a stage; a ViT has one stage, 0.

    An axis is a grid, most often of one dimension: entries that belong to the leading part of every dimension are
    those that a smaller network inherits.
    """
    if shape.family == "vit":
        width = shape["width"]
        return {"width": (width,), "qkv": (3, width), "hidden": (int(width * shape["mlp_ratio"]),)}
    first, width = shape["widths"][0], shape["widths"][stage]
    return {
        "stem": (first // 2,),
        "expanded": (int(first * shape["mbconv_expand_ratio"]),),
        "width_before": (shape["widths"][max(stage - 1, 0)],),
        "width": (width,),
        "heads": (shape.num_heads[stage],),
        "qkv": (3 * width,),
        "offsets": (shape["windows"][stage], shape["windows"][stage]),
        "hidden": (int(width * shape["mlp_ratio"]),),
    }


def _place(family: str, name: str) -> _Place | None:
    for pattern, axes in _RULES[family].items():
        if match := re.fullmatch(pattern, name):
            found = match.groupdict()
            stage = 3 if found.get("last") else int(found.get("stage") or 0)
            return _Place(axes, stage, int(found.get("block") or -1))
    return None


def _depth(shape: Shape, stage: int) -> int:
    depth: int = shape["depth"] if shape.family == "vit" else shape["depths"][stage]
    return depth


def _has_axes(tensor: torch.Tensor, axes: tuple[str, ...], grids: dict[str, Grid]) -> bool:
    sizes = zip(tensor.shape, axes, strict=False)  # vectors have the first axis, kernels more than are named
    return all(axis == _WHOLE or size == prod(grids[axis]) for size, axis in sizes)


def _leading(tensor: torch.Tensor, axes: tuple[str, ...], old: dict[str, Grid], new: dict[str, Grid]) -> torch.Tensor:
    for number, axis in enumerate(axes[: tensor.ndim]):
        if axis != _WHOLE and old[axis] != new[axis]:
            tensor = tensor.index_select(number, _kept(old[axis], new[axis]).to(tensor.device))
    return tensor


def _kept(old: Grid, new: Grid) -> torch.Tensor:
    """Indices into the flat grid ``old`` of its leading part ``new``."""
    assert all(less <= more for less, more in zip(new, old, strict=True)), f"{new} is not a part of {old}"
    return torch.arange(prod(old)).view(old)[tuple(slice(size) for size in new)].flatten()
