"""A shape is read off any TinyViT or ViT, and names the same network."""

from __future__ import annotations

import pytest
import torch

from tests.models.networks import TINY, TINY_SPEC
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import ratio_of, shape_of
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network

NAMED = {
    "tiny_vit_5m_224": "w64-128-160-320_d2-2-6-2_n7-7-14-7_e4_m4",
    "tiny_vit_11m_224": "w64-128-256-448_d2-2-6-2_n7-7-14-7_e4_m4",
    "tiny_vit_21m_224": "w96-192-384-576_d2-2-6-2_n7-7-14-7_e4_m4",
    "tiny_vit_21m_384": "w96-192-384-576_d2-2-6-2_n12-12-24-12_e4_m4",
    "deit_tiny_patch16_224": "w192_d12_m4",
    "deit_small_distilled_patch16_224": "w384_d12_m4",
    "deit_base_patch16_224": "w768_d12_m4",
    "deit3_small_patch16_224": "w384_d12_m4",
    "vit_medium_patch16_reg4_gap_256": "w512_d12_m4",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_network_has_the_shape_that_it_is_published_with(name: str) -> None:
    assert shape_of(ModelSpec(name=name), 1000, 224).name == NAMED[name]


@pytest.mark.parametrize(
    "spec",
    [
        TINY_SPEC,
        ModelSpec(
            tiny_vit=TINY.model_copy(update={"mlp_ratio": 2.5, "mbconv_expand_ratio": 1.7, "local_conv_size": 5})
        ),
        ModelSpec(name="tiny_vit_5m_224", kwargs={"depths": [1, 2, 1, 1], "in_chans": 3, "mlp_ratio": 3}),
        ModelSpec(name="deit_tiny_patch16_224", kwargs={"img_size": 32, "depth": 2, "mlp_ratio": 1.3}),
        ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs={"depth": 1, "num_heads": 6}),
    ],
    ids=["widths", "ratios", "name and kwargs", "deit", "distilled deit"],
)
def test_a_shape_names_the_network_that_it_was_read_off(spec: ModelSpec) -> None:
    shape = shape_of(spec, 5, 64)
    # Not under timm's default of stochastic depth, which named models have of their own.
    ours = build_network(shape.spec().model_copy(update={"drop_path_rate": 0.0}), 5, 64).eval()
    network = build_network(spec, 5, 64).eval()
    ours.load_state_dict(network.state_dict())
    size = 32 if "img_size" in spec.kwargs else 64
    images = torch.rand(1, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(ours(images), network(images))
    assert shape_of(shape.spec(), 5, 64) == shape


def test_arguments_that_are_no_factors_are_kept_and_those_that_fetch_weights_are_not() -> None:
    kwargs = {"img_size": 32, "pretrained": True, "depth": 3, "qkv_bias": False}
    shape = shape_of(ModelSpec(name="deit_tiny_patch16_224", kwargs=kwargs), 5, 64)
    factors = {"embed_dim": 192, "depth": 3, "num_heads": 3, "mlp_ratio": 4.0}
    assert shape.spec().kwargs == {"img_size": 32, "qkv_bias": False, **factors}


def test_a_ratio_that_was_given_is_taken_as_it_is() -> None:
    """3.333 of 64 is 213, for which 3.33 would be shorter, and not of 160."""
    widths = {"embed_dims": [64, 128, 160, 320], "mlp_ratio": 3.333}
    assert shape_of(ModelSpec.model_validate({"tiny_vit": widths}), 10, 224)["mlp_ratio"] == 3.333


def test_narrower_stages_have_fewer_heads_of_the_same_width() -> None:
    shape = shape_of(TINY_SPEC, 5, 32).with_factor("widths", (8, 24, 16, 20))
    assert shape.num_heads == (1, 1, 1, 1)
    assert shape_of(ModelSpec(name="deit_base_patch16_224"), 5, 32).with_factor("width", 128).num_heads == 2


def test_another_value_changes_the_name_and_nothing_else() -> None:
    shape = shape_of(TINY_SPEC, 5, 32)
    changed = shape.with_factor("mlp_ratio", 2.5)
    assert changed.name == "w16-24-32-40_d1-1-2-1_n4-4-4-2_e4_m2.5"
    assert changed["mlp_ratio"] == 2.5
    assert changed.with_factor("mlp_ratio", 4.0) == shape
    assert changed != shape == Shape(shape.family, shape.factors, shape.fixed, shape.kwargs)


@pytest.mark.parametrize("ratio", [4.0, 2.5, 1.1, 0.5, 8 / 3, 4.3637])
def test_a_ratio_is_read_off_a_rounded_width(ratio: float) -> None:
    for width in range(8, 800, 7):
        assert int(width * ratio_of(int(width * ratio), width)) == int(width * ratio)
    assert ratio_of(82, 33) == 2.5


REFUSED = {
    "another family": (ModelSpec(name="resnet18"), "ResNet"),
    "another transformer": (ModelSpec(name="levit_128s"), "LevitDistilled"),
    "gated MLPs": (ModelSpec(name="vit_giant_patch14_dinov2", kwargs={"depth": 1}), r"such as blocks\.0\.mlp\.fc2"),
    "pooling by attention": (ModelSpec(name="vit_base_patch16_siglip_224"), r"such as attn_pool\.latent"),
    "a stem of convolutions": (ModelSpec(name="vit_small_r26_s32_224"), r"such as patch_embed\.backbone"),
    "a stage without blocks": (ModelSpec(name="tiny_vit_5m_224", kwargs={"depths": [2, 0, 6, 2]}), "TinyVit"),
}


@pytest.mark.parametrize(("spec", "found"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_cannot_be_contracted_is_refused(spec: ModelSpec, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"student, {spec.name}\. Found: .*{found}"):
        shape_of(spec, 5, 64)
