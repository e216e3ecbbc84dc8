"""The published TinyViT checkpoints and the published teacher, tensor by tensor at their true size."""

from __future__ import annotations

from math import prod

import pytest
import timm
import torch

from tests.models.official_tiny_vit import PUBLISHED, Shape, published_shapes, timm_shell, to_official
from tests.models.shells import shells
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.load_weights import fit_resolution
from tinyvit_kd.models.official import to_timm

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def tensors_of(shapes: dict[str, Shape]) -> dict[str, torch.Tensor]:
    """Tensors with shapes and no numbers."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_official_checkpoint_fills_timms_network_completely(name: str) -> None:
    own = timm_shell(name).state_dict()
    assert shapes_of(to_timm(tensors_of(published_shapes(name)))) == shapes_of(own)
    assert {to_official(each) for each in own} == set(published_shapes(name))


@pytest.mark.parametrize(
    ("name", "millions"), zip(PUBLISHED, (5.4, 11.0, 21.2, 21.2, 21.3), strict=True), ids=lambda value: str(value)
)
def test_the_official_network_has_timms_parameters_and_the_published_number_of_them(name: str, millions: float) -> None:
    trained = {each: shape for each, shape in published_shapes(name).items() if not each.endswith(BUFFERS)}
    count = sum(map(prod, trained.values()))
    assert count == sum(parameter.numel() for parameter in timm_shell(name).parameters())
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("low", "high"), [("tiny_vit_21m_224", "tiny_vit_21m_384"), ("tiny_vit_21m_384", "tiny_vit_21m_512")]
)
def test_a_checkpoint_fits_the_next_resolution(low: str, high: str) -> None:
    network = timm_shell(high)
    state = fit_resolution(to_timm(tensors_of(published_shapes(low))), network)
    assert shapes_of(state) == shapes_of(network.state_dict())


def clip_shapes(width: int, layers: int, tokens: int, patch: int, embed: int, classes: int) -> dict[str, Shape]:
    """Shapes of the CLIP teacher's checkpoint (TinyViT/models/clip.py), by official name."""
    shapes: dict[str, Shape] = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (tokens, width),
        "visual.proj": (width, embed),
        "visual.conv1.weight": (width, 3, patch, patch),
        "head.weight": (classes, embed),
        "head.bias": (classes,),
    }
    linears = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
    norms = ["visual.ln_pre", "visual.ln_post"]
    for layer in range(layers):
        prefix = f"visual.transformer.resblocks.{layer}"
        norms += [f"{prefix}.ln_1", f"{prefix}.ln_2"]
        shapes |= {f"{prefix}.attn.in_proj_weight": (3 * width, width), f"{prefix}.attn.in_proj_bias": (3 * width,)}
        for name, (out, inputs) in linears.items():
            shapes |= {f"{prefix}.{name}.weight": (out, inputs), f"{prefix}.{name}.bias": (out,)}
    return shapes | {f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")}


def test_the_published_teacher_fills_timms_vit_large_completely() -> None:
    config = TeacherConfig(name="vit_large_patch14_clip_quickgelu_224", pretrained=True, num_classes=21841)
    with shells():
        network = timm.create_model(config.name, num_classes=config.num_classes)
    state = to_timm(tensors_of(clip_shapes(1024, 24, 257, 14, 768, 21841)))
    assert shapes_of(fit_resolution(state, network)) == shapes_of(network.state_dict())


def test_a_teacher_in_half_precision_gets_a_head_that_is_not_rounded_twice() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = clip_shapes(8, 1, 5, 2, 6, 3)
    state = {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}
    head = to_timm(state)["head.weight"]
    exact = state["head.weight"].double() @ state["visual.proj"].double().T
    assert head.dtype == torch.float32
    torch.testing.assert_close(head.double(), exact, rtol=1e-6, atol=0)
