"""What shapes take is what networks of that shape take."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from torch import nn

from tests.contraction.known_shapes import PUBLISHED, small, tiny_vit, vit
from tinyvit_kd.config.contraction import SpaceConfig, TinyVitSpaceConfig, VitSpaceConfig
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction import costs
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.moves import lowered_from
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Argument, Shape
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import cost_of, without_memory

SPACE = SpaceConfig(
    tiny_vit=TinyVitSpaceConfig(windows=[1, 3, 5, 7, 14], mbconv_expand_step=0.7, mlp_step=0.7),
    vit=VitSpaceConfig(mlp_step=0.7),
)
SIZES = [(224, 1000), (200, 10), (96, 1000), (32, 10)]  # pixels and classes


def costs_of_the_whole(shape: Shape, classes: int, size: int) -> Costs:
    found = cost_of(without_memory(lambda: build_network(shape.spec(), classes, size)), size, trains=False)
    memory = found.weight_bytes + found.largest_bytes
    return Costs(found.parameters, found.multiply_adds, memory, found.moved_bytes)


def drawn(base: Shape, count: int, seed: int) -> list[Shape]:
    """Shapes that random moves lead to, each from the one before, until there is no move left, and then anew."""
    draw, shapes = random.Random(seed), [base]
    while len(shapes) < count:
        moved = shapes[-1]
        for _ in range(draw.randint(1, 6)):
            moved = draw.choice(lowered_from(moved, SPACE) or [base])
        shapes.append(moved)
    return shapes


def with_kwargs(shape: Shape, **kwargs: Argument) -> Shape:
    return Shape(shape.family, shape.factors, shape.fixed, tuple(sorted(kwargs.items())))


@pytest.mark.parametrize(("name", "millions", "billions"), [("5M", 5.4, 1.3), ("11M", 11, 2.0), ("21M", 21, 4.3)])
def test_the_published_shapes_cost_what_the_paper_says(name: str, millions: float, billions: float) -> None:
    found = costs_of(PUBLISHED[name], 1000, 224)  # arXiv 2207.10666, table 4
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.02)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=0.05)


@pytest.mark.parametrize(("size", "classes"), SIZES)
@pytest.mark.parametrize(
    "name",
    [
        *("tiny_vit_5m_224", "tiny_vit_11m_224", "tiny_vit_21m_224"),
        *("deit_tiny_patch16_224", "deit_small_distilled_patch16_224", "deit3_small_patch16_224"),
    ],
)
def test_parts_of_a_named_network_add_up_to_the_whole(name: str, size: int, classes: int) -> None:
    shape = shape_of(ModelSpec(name=name), classes, size)
    assert costs_of(shape, classes, size) == costs_of_the_whole(shape, classes, size)


@pytest.mark.parametrize(("size", "classes"), SIZES)
@pytest.mark.parametrize(
    "base",
    [
        tiny_vit((96, 160, 192, 256), (2, 3, 4, 2)),
        with_kwargs(vit(320, 5), init_values=1e-5),
    ],
    ids=["tiny_vit", "vit"],
)
def test_parts_of_shapes_that_moves_lead_to_add_up_to_the_whole(base: Shape, size: int, classes: int) -> None:
    for shape in drawn(base, 5, seed=size):
        assert costs_of(shape, classes, size) == costs_of_the_whole(shape, classes, size), shape.name


@pytest.mark.parametrize(
    ("base", "kwargs"),
    [
        (small(2), {"use_checkpoint": True}),
        (small(2), {"global_pool": "max", "drop_rate": 0.1, "proj_drop_rate": 0.1}),
        (vit(128, 3), {"global_pool": "map"}),
        (vit(128, 3), {"global_pool": "avg", "class_token": False, "fc_norm": False}),
        (vit(128, 3), {"reg_tokens": 4, "qk_norm": True, "dynamic_img_size": True, "patch_drop_rate": 0.5}),
        (vit(128, 3), {"pre_norm": True, "no_embed_class": True, "patch_size": 8}),
        (vit(128, 3), {"pos_embed": "none", "class_token": False, "global_pool": "avg", "drop_path_rate": 0.3}),
    ],
    ids=str,
)
def test_arguments_of_timms_networks_count(base: Shape, kwargs: dict[str, Any]) -> None:
    for shape in (with_kwargs(base, **kwargs), with_kwargs(base, **kwargs).with_factor("mlp_ratio", 3.0)):
        assert costs_of(shape, 10, 64) == costs_of_the_whole(shape, 10, 64)


def test_a_thousand_shapes_need_no_more_networks_than_there_are_different_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = counted_networks(monkeypatch)
    shapes = [
        tiny_vit((16, *widths), depths, (7, 7, 7, 7)).with_factor("mlp_ratio", ratio)
        for widths in product([32, 64], [32, 64], [32, 64])
        for depths in product([1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3])
        for ratio in (4.0, 3.0)
    ]
    assert len({costs_of(each, 11, 32) for each in shapes}) > 1000
    stems, downsamplings, blocks, heads = 1, 2 + 4 + 4, 1 + 3 * 2 * 2, 2
    assert len(built) <= stems + downsamplings + blocks + heads
    before = len(built)
    unseen = tiny_vit((16, 64, 32, 64), (4, 5, 6, 7), (7, 7, 7, 7))
    assert costs_of(unseen, 11, 32) == costs_of_the_whole(unseen, 11, 32)
    assert len(built) == before


def counted_networks(monkeypatch: pytest.MonkeyPatch) -> list[ModelSpec]:
    """A list that each network is added to which costs are measured on."""
    built: list[ModelSpec] = []

    def build(spec: ModelSpec, num_classes: int | None, image_size: int | None) -> nn.Module:
        built.append(spec)
        return build_network(spec, num_classes, image_size)

    monkeypatch.setattr(costs, "build_network", build)
    return built


def test_of_too_many_parts_those_that_were_forgotten_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "_MOST_PARTS", 0)
    built = counted_networks(monkeypatch)
    for shape in (vit(64, 2), vit(64, 3), vit(128, 2), vit(64, 4)):
        assert costs_of(shape, 12, 32) == costs_of_the_whole(shape, 12, 32)
    assert [each.kwargs["embed_dim"] for each in built] == [64, 128, 64]


@pytest.mark.parametrize("shape", [tiny_vit((16, 32, 32, 32), (1, 0, 2, 1), (7, 7, 7, 7)), vit(64, 0)], ids=str)
def test_a_shape_without_blocks_is_measured_as_a_whole(shape: Shape) -> None:
    assert costs_of(shape, 10, 32) == costs_of_the_whole(shape, 10, 32)


def test_memory_is_that_of_the_weights_and_the_largest_layer() -> None:
    shape = small()
    found, network = costs_of(shape, 10, 64), build_network(shape.spec(), 10, 64)
    weights = sum(each.numel() * each.element_size() for each in [*network.parameters(), *network.buffers()])
    hidden = 4 * 32 * 16 * 16  # numbers into and out of the activation of an MBConv block
    assert found.memory_bytes == weights + 4 * 2 * hidden


def test_a_deeper_network_takes_more_of_everything_but_memory_of_its_largest_layer() -> None:
    less, more = costs_of(vit(64, 1), 10, 32), costs_of(vit(64, 3), 10, 32)
    assert more.parameters > less.parameters
    assert more.multiply_adds > less.multiply_adds
    assert more.moved_bytes > less.moved_bytes
    assert more.memory_bytes - less.memory_bytes == 4 * (more.parameters - less.parameters)


def test_a_shape_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be built"):
        costs_of(vit(64, 1).with_factor("mlp_ratio", -1.0), 10, 32)


def test_images_that_a_shape_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="8 x 8 pixels"):
        costs_of(with_kwargs(vit(64, 3), img_size=32), 10, 8)
