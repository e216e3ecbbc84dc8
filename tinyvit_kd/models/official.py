"""From the names in official TinyViT checkpoints (microsoft/Cream, TinyViT) to the names of timm's models."""

from __future__ import annotations

import re

import torch

StateDict = dict[str, torch.Tensor]

_TINY_VIT_RENAMES = (
    (re.compile(r"^patch_embed\.seq\.0\."), "patch_embed.conv1."),
    (re.compile(r"^patch_embed\.seq\.2\."), "patch_embed.conv2."),
    (re.compile(r"\.c\.(weight|bias)$"), r".conv.\1"),
    (re.compile(r"^norm_head\."), "head.norm."),
    (re.compile(r"^head\.(weight|bias)$"), r"head.fc.\1"),
    (re.compile(r"^layers\.(\d+)\.blocks\."), r"stages.\1.blocks."),
)
_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
_CLIP_RENAMES = (
    ("conv1.", "patch_embed.proj."),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    ("ln_", "norm"),
    ("in_proj_", "qkv."),
    ("out_proj.", "proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)
_CLIP_NOT_RENAMED = frozenset({"class_embedding", "positional_embedding", "proj"})


def to_timm(state: StateDict) -> StateDict:
    """A state dict under timm's names; one that does not have official names is returned as it is."""
    if any(name.startswith("layers.0.blocks.") for name in state) and "norm_head.weight" in state:
        return _tiny_vit_to_timm(state)
    if "visual.class_embedding" in state and "head.weight" in state:
        return _clip_to_timm(state)
    return state


def _tiny_vit_to_timm(state: StateDict) -> StateDict:
    # timm computes the indices of attention biases.
    return {_tiny_vit_name(name): value for name, value in state.items() if not name.endswith("attention_bias_idxs")}


def _tiny_vit_name(name: str) -> str:
    # timm puts a downsampling layer at the start of the next stage, the official code at the end of the one before.
    name = _DOWNSAMPLE.sub(lambda match: f"stages.{int(match[1]) + 1}.downsample.", name)
    for pattern, replacement in _TINY_VIT_RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _clip_to_timm(state: StateDict) -> StateDict:
    """CLIP-ViT-L/14-22k: the image tower, with its projection folded into the head, which follows it directly."""
    tower = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    renamed = {_clip_name(name): value for name, value in tower.items() if name not in _CLIP_NOT_RENAMED}
    renamed["cls_token"] = state["visual.class_embedding"].reshape(1, 1, -1)
    renamed["pos_embed"] = state["visual.positional_embedding"].unsqueeze(0)
    projection = state["visual.proj"].double()  # [width, embed]
    renamed["head.weight"] = (state["head.weight"].double() @ projection.T).float()  # weights may be float16
    renamed["head.bias"] = state["head.bias"]
    return renamed


def _clip_name(name: str) -> str:
    for old, new in _CLIP_RENAMES:
        name = name.replace(old, new)
    return name
