"""From 224 to 384 to 512 pixels: what depends on the resolution is resized as published, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.load_weights import InitialWeights, load_into

State = dict[str, torch.Tensor]
WINDOWS = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}  # arXiv 2207.10666, section 4.1


def tiny_vit(size: int) -> nn.Module:
    widths = TinyVitWidths(
        embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), window_sizes=WINDOWS[size]
    )
    return build_network(ModelSpec(tiny_vit=widths), 3, size, seed=size)


def deit(size: int, name: str = "deit_tiny_distilled_patch16_224") -> nn.Module:
    spec = ModelSpec(name=name, kwargs={"img_size": size, "depth": 1, "embed_dim": 12, "num_heads": 2})
    return build_network(spec, 3, size, seed=size)


def published_biases(biases: torch.Tensor, window: int) -> torch.Tensor:
    """TinyViT/utils.py of microsoft/Cream, ``load_pretrained``: heads are channels of a square of offsets."""
    heads, offsets = biases.shape
    side = int(offsets**0.5)
    return F.interpolate(biases.view(1, heads, side, side), size=(window, window), mode="bicubic").view(heads, -1)


def published_embeddings(embeddings: torch.Tensor, side: int, extra: int) -> torch.Tensor:
    """main.py of facebookresearch/deit: the grid alone is interpolated, its channels first."""
    grid = embeddings[0, extra:]
    old = int(len(grid) ** 0.5)
    channels = torch.stack([F.interpolate(c.view(1, 1, old, old), (side, side), mode="bicubic") for c in grid.T])
    return torch.cat([embeddings[0, :extra], channels.flatten(1).T]).unsqueeze(0)


def by_window(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    return published_biases(old, int(new.shape[1] ** 0.5))


def by_side(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    return published_embeddings(old, int((new.shape[1] - 2) ** 0.5), 2)


def is_resized(name: str) -> bool:
    return name.endswith(("attention_biases", "pos_embed"))


def climb(build: Callable[[int], nn.Module], state: State) -> list[State]:
    """Weights at 224, 384 and 512 pixels, each from the one before."""
    states = [state]
    for size in (384, 512):
        network = build(size)
        load_into(network, InitialWeights(states[-1]), "here")
        states.append(network.state_dict())
    return states


@pytest.mark.parametrize(
    ("build", "published", "lengths"),
    [
        (tiny_vit, by_window, [49, 196, 49, 144, 576, 144, 256, 1024, 256]),
        (deit, by_side, [198, 578, 1026]),
    ],
    ids=["TinyViT", "DeiT"],
)
def test_224_to_384_to_512_is_as_published(
    build: Callable[[int], nn.Module],
    published: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    lengths: list[int],
) -> None:
    low = build(224).state_dict()
    states = climb(
        build, {name: torch.randn(value.shape) if is_resized(name) else value for name, value in low.items()}
    )
    assert [value.shape[1] for state in states for name, value in state.items() if is_resized(name)] == lengths
    for before, after in pairwise(states):
        for name, value in after.items():
            expected = published(before[name], value) if is_resized(name) else before[name]
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("build", [tiny_vit, deit])
def test_constants_stay_constant(build: Callable[[int], nn.Module]) -> None:
    low = build(224).state_dict()
    constant = {name: torch.full_like(value, 0.37) if is_resized(name) else value for name, value in low.items()}
    for state in climb(build, constant):
        for name, value in state.items():
            if is_resized(name):
                torch.testing.assert_close(value, torch.full_like(value, 0.37), rtol=1e-5, atol=0)


def test_the_tokens_of_deit_keep_their_embeddings() -> None:
    low, high = deit(224), deit(384)
    load_into(high, InitialWeights(low.state_dict()), "here")
    assert torch.equal(high.state_dict()["pos_embed"][:, :2], low.state_dict()["pos_embed"][:, :2])


def test_timms_own_resizing_differs() -> None:
    high = deit(384)
    state = {name: torch.randn(value.shape) for name, value in deit(224).state_dict().items()}
    timms = checkpoint_filter_fn(dict(state), high)["pos_embed"]
    load_into(high, InitialWeights(state), "here")
    assert (high.state_dict()["pos_embed"] - timms).abs().max() > 0.05


def test_a_plain_vision_transformer_has_one_token() -> None:
    low, high = deit(224, "vit_tiny_patch16_224"), deit(384, "vit_tiny_patch16_224")
    load_into(high, InitialWeights(low.state_dict()), "here")
    expected = published_embeddings(low.state_dict()["pos_embed"], 24, 1)
    torch.testing.assert_close(high.state_dict()["pos_embed"], expected, rtol=1e-6, atol=1e-6)


def test_weights_without_a_distillation_token_are_refused_at_any_resolution() -> None:
    plain = timm.create_model("deit_tiny_patch16_224", depth=1, embed_dim=12, num_heads=2, num_classes=3)
    with pytest.raises(CheckpointError, match="dist_token is missing"):
        load_into(deit(384), InitialWeights(plain.state_dict()), "here")
