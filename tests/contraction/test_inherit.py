"""A contracted network inherits the leading part of its base's weights, and computes with it what the base did."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.contraction.inherit import inherit, without_rule
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import StateDict

CLASSES, SIZE = 5, 64
TINY_VIT = ModelSpec(
    tiny_vit=TinyVitWidths(
        embed_dims=(16, 32, 48, 64), depths=(2, 2, 3, 2), num_heads=(1, 2, 3, 4), window_sizes=(4,) * 4
    )
)
_VIT: dict[str, Any] = {"img_size": SIZE, "embed_dim": 48, "num_heads": 3, "depth": 3}
SPECS = {
    "tiny_vit": TINY_VIT,
    "deit": ModelSpec(name="deit_tiny_patch16_224", kwargs=_VIT),
    "distilled": ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs=_VIT),
    # Layer scale, register tokens, norms of queries and keys, mean pooling: all that a plain ViT may have besides.
    "vit": ModelSpec(
        name="vit_medium_patch16_reg4_gap_256",
        kwargs={**_VIT, "qk_norm": True, "pre_norm": True, "scale_attn_norm": True},
    ),
}
each_family = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def network_of(shape: Shape, state: StateDict | None = None, size: int = SIZE) -> nn.Module:
    """In evaluation mode, with these weights, or with numbers none of which has a special value."""
    network = build_network(shape.spec().model_copy(update={"drop_path_rate": 0.0}), CLASSES, size).eval()
    network.load_state_dict(drawn(network.state_dict()) if state is None else state)
    return network


def drawn(state: StateDict) -> StateDict:
    generator = torch.Generator().manual_seed(1)
    return {
        name: 0.5 + torch.rand(each.shape, generator=generator) / 2
        if name.endswith(("running_var", "norm.weight", "bn.weight"))
        else torch.randn(each.shape, generator=generator) / 4
        if each.is_floating_point()
        else each + 3
        for name, each in state.items()
    }


def output(network: nn.Module, size: int = SIZE) -> torch.Tensor:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found: torch.Tensor = network(images)
    return found


@each_family
def test_an_unchanged_shape_has_the_same_tensors_and_the_same_outputs(spec: ModelSpec) -> None:
    base = shape_of(spec, CLASSES, SIZE)
    network = network_of(base)
    state = network.state_dict()
    inherited = inherit(state, base, base)
    assert inherited.keys() == state.keys()
    assert all(inherited[name].data_ptr() == state[name].data_ptr() for name in state)
    assert torch.equal(output(network_of(base, inherited)), output(network))


def twice_as_wide(name: str, tensor: torch.Tensor, wide: torch.Size, heads_apart: bool) -> torch.Tensor:
    """A tensor of a network all of whose widths are doubled so that each channel and head stands there twice.

    What is put out is put out twice. What is taken in is the first of the two; the other has weight zero. The mean and
    deviation of a norm over channels are those of one of the two.
    """
    for axis, (old, new) in enumerate(zip(tensor.shape, wide, strict=True)):
        if new == old:
            continue
        assert new == 2 * old
        takes_in = axis == 1 and tensor.ndim in (2, 4) and "attention_biases" not in name
        if heads_apart and "attn.qkv" in name and axis == 0:
            tensor = torch.cat([each for third in tensor.chunk(3) for each in (third, third)])
        else:
            tensor = torch.cat([tensor, torch.zeros_like(tensor) if takes_in else tensor], axis)
    return tensor


@each_family
def test_a_base_with_every_channel_and_head_twice_becomes_the_network_with_each_once(spec: ModelSpec) -> None:
    narrow = shape_of(spec, CLASSES, SIZE)
    factor = "widths" if narrow.family == "tiny_vit" else "width"
    doubled = tuple(2 * each for each in narrow[factor]) if factor == "widths" else 2 * narrow[factor]
    base = narrow.with_factor(factor, doubled)
    network = network_of(narrow)
    empty = network_of(base).state_dict()
    apart = base.family == "vit"  # all queries, all keys, all values
    state = {name: twice_as_wide(name, each, empty[name].shape, apart) for name, each in network.state_dict().items()}
    torch.testing.assert_close(output(network_of(base, state)), output(network), rtol=1e-4, atol=1e-4)
    assert torch.equal(output(network_of(narrow, inherit(state, base, narrow))), output(network))


@pytest.mark.parametrize(
    ("spec", "factor"),
    [*((spec, "mlp_ratio") for spec in SPECS.values()), (TINY_VIT, "mbconv_expand_ratio")],
    ids=[*SPECS, "MBConv"],
)
def test_a_base_that_does_not_use_its_last_hidden_channels_gives_the_same_outputs_without_them(
    spec: ModelSpec, factor: str
) -> None:
    base = shape_of(spec, CLASSES, SIZE)
    state = drawn(network_of(base).state_dict())
    output_layer = "mlp.fc2.weight" if factor == "mlp_ratio" else "conv3.conv.weight"
    for name, each in state.items():
        if name.endswith(output_layer) and ("downsample" not in name):
            each[:, each.shape[1] * 3 // 4 :] = 0
    shape = base.with_factor(factor, 3.0)
    torch.testing.assert_close(
        output(network_of(shape, inherit(state, base, shape))), output(network_of(base, state)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("stage", range(4))
def test_a_tiny_vit_with_a_block_less_computes_what_its_base_does_without_the_stages_last(stage: int) -> None:
    base = shape_of(TINY_VIT, CLASSES, SIZE)
    network = network_of(base)
    state = dict(network.state_dict())
    network.get_submodule(f"stages.{stage}.blocks")[-1] = nn.Identity()  # type: ignore[operator]
    depths = [depth - (number == stage) for number, depth in enumerate(base["depths"])]
    shape = base.with_factor("depths", tuple(depths))
    assert torch.equal(output(network_of(shape, inherit(state, base, shape))), output(network))


@pytest.mark.parametrize("name", ["deit", "distilled", "vit"])
def test_a_vit_with_a_block_less_computes_what_its_base_does_without_the_last(name: str) -> None:
    base = shape_of(SPECS[name], CLASSES, SIZE)
    network = network_of(base)
    state = dict(network.state_dict())
    network.get_submodule("blocks")[-1] = nn.Identity()  # type: ignore[operator]
    shape = base.with_factor("depth", base["depth"] - 1)
    assert torch.equal(output(network_of(shape, inherit(state, base, shape))), output(network))


def test_a_smaller_window_has_the_same_bias_between_the_same_tokens() -> None:
    base = shape_of(TINY_VIT, CLASSES, SIZE)
    shape = base.with_factor("windows", (4, 4, 3, 2))
    network = network_of(base)
    smaller = network_of(shape, inherit(network.state_dict(), base, shape))
    for stage, side in ((1, 4), (2, 3), (3, 2)):
        old = biases(network, stage, 4)
        assert torch.equal(biases(smaller, stage, side), old[:, :side, :side, :side, :side])


def biases(network: nn.Module, stage: int, side: int) -> torch.Tensor:
    """Attention biases as the network adds them: [heads, y of the query, x, y of the key, x]."""
    attention: Any = network.get_submodule(f"stages.{stage}.blocks.0.attn")
    found: torch.Tensor = attention.get_attention_biases(torch.device("cpu"))
    return found.reshape(-1, side, side, side, side)


def test_a_narrower_stage_keeps_what_others_take_from_it_and_give_to_it() -> None:
    base = shape_of(TINY_VIT, CLASSES, SIZE)
    shape = base.with_factor("widths", (16, 32, 32, 64))
    state = drawn(network_of(base).state_dict())
    found = inherit(state, base, shape)
    changed = {name for name in state if state[name].shape != found[name].shape}
    assert {name.rsplit(".", 1)[0] for name in changed if not name.startswith("stages.2.")} == {
        "stages.3.downsample.conv1.conv"
    }
    taken = state["stages.3.downsample.conv1.conv.weight"]
    assert torch.equal(found["stages.3.downsample.conv1.conv.weight"], taken[:, :32])
    statistics = "stages.2.downsample.conv2.bn.running_var"
    assert torch.equal(found[statistics], state[statistics][:32])
    heads = "stages.2.blocks.0.attn.attention_biases"
    assert torch.equal(found[heads], state[heads][:2])


@each_family
def test_weights_inherited_in_two_moves_are_those_inherited_at_once(spec: ModelSpec) -> None:
    base = shape_of(spec, CLASSES, SIZE)
    state = drawn(network_of(base).state_dict())
    if base.family == "tiny_vit":
        middle = base.with_factor("widths", (16, 32, 32, 48)).with_factor("windows", (4, 4, 3, 4))
        last = middle.with_factor("widths", (12, 16, 32, 32)).with_factor("windows", (4, 4, 2, 3))
    else:
        middle = base.with_factor("width", 32).with_factor("depth", 2)
        last = middle.with_factor("width", 16).with_factor("mlp_ratio", 2.5)
    in_two, at_once = inherit(inherit(state, base, middle), middle, last), inherit(state, base, last)
    assert in_two.keys() == at_once.keys()
    assert all(torch.equal(in_two[name], at_once[name]) for name in at_once)


@each_family
def test_all_weights_of_a_network_have_a_rule(spec: ModelSpec) -> None:
    base = shape_of(spec, CLASSES, SIZE)
    state = network_of(base).state_dict()
    assert without_rule(state, base) == []
    assert without_rule({**state, "adapter.weight": torch.zeros(3)}, base) == ["adapter.weight"]
    wider = dict(base.factors)["mlp_ratio"] + 1  # type: ignore[operator]
    assert any("mlp" in name for name in without_rule(state, base.with_factor("mlp_ratio", wider)))


def test_a_weight_without_a_rule_is_not_passed_over() -> None:
    base = shape_of(TINY_VIT, CLASSES, SIZE)
    with pytest.raises(AssertionError, match=r"adapter\.weight"):
        inherit({**network_of(base).state_dict(), "adapter.weight": torch.zeros(3)}, base, base)


def test_a_shape_that_is_larger_in_anything_inherits_nothing() -> None:
    base = shape_of(TINY_VIT, CLASSES, SIZE)
    with pytest.raises(AssertionError, match="not a part of"):
        inherit(network_of(base).state_dict(), base, base.with_factor("windows", (4, 4, 7, 4)))
