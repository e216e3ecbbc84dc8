"""Moves through a space of shapes keep to it, and reach what they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyvit_kd.config.contraction import SpaceConfig, TinyVitSpaceConfig, VitSpaceConfig
from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.contraction.inherit import inherit
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import candidates, neighbours, shape_of
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network

SPACE = SpaceConfig()
SMALL = SpaceConfig(
    tiny_vit=TinyVitSpaceConfig(width_step=8, lowest_widths=(8, 8, 8, 8), windows=[2, 3, 4], mlp_step=0.7),
    vit=VitSpaceConfig(width_step=16, lowest_width=16, mlp_step=0.7),
)
SMALL_TINY_VIT = ModelSpec(
    tiny_vit=TinyVitWidths(
        embed_dims=(16, 24, 32, 32), depths=(1, 2, 2, 1), num_heads=(1, 3, 4, 4), window_sizes=(4,) * 4
    )
)
SMALL_DEIT = ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs={"embed_dim": 48, "num_heads": 3, "depth": 3})


def named(name: str) -> Shape:
    return shape_of(ModelSpec(name=name), 1000, 224)


def moves(shape: Shape, space: SpaceConfig = SPACE) -> list[str]:
    found = neighbours(shape, space)
    assert all(each.base == shape.name and len(each.moves) == 1 for each in found)
    return [each.moves[0] for each in found]


def space(**tiny_vit: Any) -> SpaceConfig:
    return SpaceConfig(tiny_vit=TinyVitSpaceConfig(**tiny_vit))


def test_a_move_lowers_one_factor_by_one_step() -> None:
    assert moves(named("tiny_vit_21m_224")) == [
        *("widths[0] 96 → 64", "widths[1] 192 → 160", "widths[2] 384 → 352", "widths[3] 576 → 544"),
        *("depths[0] 2 → 1", "depths[1] 2 → 1", "depths[2] 6 → 5", "depths[3] 2 → 1"),
        *("windows[2] 14 → 7", "mbconv_expand_ratio 4 → 3", "mlp_ratio 4 → 3"),
    ]
    assert moves(named("deit_base_patch16_224")) == ["width 768 → 704", "depth 12 → 11", "mlp_ratio 4 → 3"]


def test_no_move_goes_below_a_bound() -> None:
    bounds = {"lowest_widths": (64, 97, 160, 545), "lowest_depths": (2, 2, 6, 1)}
    bounded = space(**bounds, windows=[14, 15], lowest_mbconv_expand=3.01, lowest_mlp=3)
    assert moves(named("tiny_vit_5m_224"), bounded) == ["depths[3] 2 → 1", "mlp_ratio 4 → 3"]
    lowest = SpaceConfig(vit=VitSpaceConfig(lowest_width=192, lowest_depth=12, lowest_mlp=4))
    assert moves(named("deit_tiny_patch16_224"), lowest) == []


def test_only_the_factors_that_are_named_are_lowered() -> None:
    assert moves(named("tiny_vit_5m_224"), space(factors=["mlp_ratio", "windows"])) == [
        "windows[2] 14 → 7",
        "mlp_ratio 4 → 3",
    ]


def test_a_window_becomes_the_next_smaller_one_of_the_list_in_stages_with_attention() -> None:
    found = moves(named("tiny_vit_21m_384"), space(factors=["windows"], windows=[7, 14, 10, 12, 24]))
    assert found == ["windows[1] 12 → 10", "windows[2] 24 → 14", "windows[3] 12 → 10"]


def test_steps_that_are_no_binary_fractions_do_not_add_up_errors() -> None:
    shape = named("tiny_vit_5m_224")
    steps = space(factors=["mlp_ratio"], mlp_step=0.1, lowest_mlp=3.5)
    ratios = []
    while found := neighbours(shape, steps):
        shape = found[0].shape
        ratios.append(shape["mlp_ratio"])
    assert ratios == [3.9, 3.8, 3.7, 3.6, 3.5]


def test_no_layer_is_left_empty() -> None:
    shape = shape_of(SMALL_TINY_VIT, 5, 32)
    # A hundredth of 24 channels is no channel, and neither is half of one.
    assert moves(shape, space(factors=["mlp_ratio"], mlp_step=3.99, lowest_mlp=0.001)) == []
    assert moves(shape, space(factors=["mlp_ratio"], mlp_step=3.9, lowest_mlp=0.001)) == ["mlp_ratio 4 → 0.1"]
    narrow = shape.with_factor("widths", (9, 8, 8, 8))
    assert moves(narrow, space(factors=["widths"], width_step=8, lowest_widths=(1, 1, 1, 1))) == []


def test_a_smaller_window_matters_even_where_both_are_larger_than_the_image() -> None:
    base = shape_of(SMALL_TINY_VIT, 5, 16)  # one token in stage 2
    network = build_network(base.spec(), 5, 16).eval()
    smaller = base.with_factor("windows", (4, 4, 3, 4))
    contracted = build_network(smaller.spec(), 5, 16).eval()
    contracted.load_state_dict(inherit(network.state_dict(), base, smaller))
    images = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert not torch.allclose(contracted(images), network(images), rtol=1e-6, atol=0)


WRONG_STEPS = {
    "tiny_vit": ("tiny_vit_5m_224", space(width_step=48), "32 channels wide"),
    "vit": ("deit_tiny_patch16_224", SpaceConfig(vit=VitSpaceConfig(width_step=32)), "64 channels wide"),
}


@pytest.mark.parametrize(("name", "wrong", "found"), WRONG_STEPS.values(), ids=WRONG_STEPS)
def test_a_step_that_would_cut_a_head_is_refused(name: str, wrong: SpaceConfig, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.\w+\.width_step.*{found}.*a multiple of"):
        neighbours(named(name), wrong)


def test_what_meets_is_a_candidate_and_is_not_contracted_further() -> None:
    base = named("tiny_vit_21m_224")
    assert list(candidates(base, SPACE, lambda _: True, 3)) == [neighbours(base, SPACE), [], []]
    one, two = candidates(base, SPACE, lambda shape: shape["depths"][3] == 1, 2)
    others = [each.shape for each in neighbours(base, SPACE) if each.shape["depths"][3] == 2]
    assert [each.moves for each in one] == [("depths[3] 2 → 1",)]
    lowered = [shape.with_factor("depths", (*shape["depths"][:3], 1)) for shape in others]
    assert {each.shape for each in two} == set(lowered)


def test_candidates_of_several_moves_are_those_that_meet_while_none_on_the_way_does() -> None:
    base = named("tiny_vit_21m_224")
    asked = []

    def meets(shape: Shape) -> bool:
        asked.append(shape)
        return bool(shape["widths"][3] <= 544 and sum(shape["depths"]) <= 11)

    one, two, three = candidates(base, SPACE, meets, 3)
    assert one == []
    assert [each.moves for each in two] == [
        ("widths[3] 576 → 544", f"depths[{stage}] {old} → {old - 1}") for stage, old in enumerate((2, 2, 6, 2))
    ]
    assert len(set(asked)) == len(asked) > len(neighbours(base, SPACE))
    assert three
    assert all(each.shape["widths"][3] == 544 or sum(each.shape["depths"]) == 11 for each in three)
    _, twice = candidates(base, SPACE, lambda shape: shape["widths"][1] == 128, 2)
    assert [each.moves for each in twice] == [("widths[1] 192 → 128",)]


def test_no_more_shapes_are_asked_about_than_are_wanted() -> None:
    base, asked = named("tiny_vit_21m_224"), []
    found = candidates(base, SPACE, lambda shape: asked.append(shape) or False, 4)  # type: ignore[func-returns-value]
    assert next(found) == []
    assert asked == [each.shape for each in neighbours(base, SPACE)]


def test_candidates_end_where_the_space_does() -> None:
    asked: list[Shape] = []
    base = named("deit_tiny_patch16_224").with_factor("depth", 2).with_factor("mlp_ratio", 3.0)

    def meets(shape: Shape) -> bool:
        asked.append(shape)
        return False

    assert not any(candidates(base, SPACE, meets, 100))
    assert len(asked) == 3 * 2 * 2 - 1  # widths of 192, 128 and 64, two depths, two ratios, less the base itself


@pytest.mark.parametrize("target", ["tiny_vit_11m_224", "tiny_vit_5m_224"])
def test_the_published_students_are_reached_from_the_largest_inside_the_papers_space(target: str) -> None:
    """arXiv 2207.10666, section 3.2: TinyViT-11M and 5M were contracted from 21M."""
    shape, wanted = named("tiny_vit_21m_224"), named(target)
    steps = 0
    while shape != wanted:
        on_the_way = [each.shape for each in neighbours(shape, SPACE) if is_not_below(each.shape, wanted)]
        assert on_the_way, f"no move from {shape.name} leads to {wanted.name}"
        shape, steps = on_the_way[0], steps + 1
    assert steps == {"tiny_vit_11m_224": 1 + 2 + 4 + 4, "tiny_vit_5m_224": 1 + 2 + 7 + 8}[target]


def is_not_below(shape: Shape, other: Shape) -> bool:
    pairs = zip(numbers(shape), numbers(other), strict=True)
    return all(more >= less for more, less in pairs)


def numbers(shape: Shape) -> list[float]:
    return [each for _, value in shape.factors for each in (value if isinstance(value, tuple) else (value,))]


@given(st.data())
@settings(deadline=None, max_examples=8)
@pytest.mark.parametrize("spec", [SMALL_TINY_VIT, SMALL_DEIT], ids=["tiny_vit", "deit"])
def test_any_chain_of_moves_gives_networks_that_inherit_and_run(spec: ModelSpec, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([32, 64]))
    base = shape_of(spec, 5, size)
    state = build_network(base.spec(), 5, size).state_dict()
    for _ in range(data.draw(st.integers(1, 6))):
        found = neighbours(base, SMALL)
        if not found:
            break
        shape = data.draw(st.sampled_from(found)).shape
        network = build_network(shape.spec(), 5, size).eval()
        network.load_state_dict(inherit(state, base, shape))
        with torch.inference_mode():
            assert network(torch.rand(1, 3, size, size)).isfinite().all()
        base, state = shape, network.state_dict()
