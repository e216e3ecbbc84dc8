"""What a network takes is measured on the network itself, without memory for its numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import NetworkCost, cost_of, costs_by_part, without_memory
from tinyvit_kd.planning.operations import REST


def cost(name: str, classes: int | None = None, size: int = 224, *, trains: bool = True) -> NetworkCost:
    network = without_memory(lambda: build_network(ModelSpec(name=name), classes, size))
    assert all(each.device.type == "meta" for each in network.parameters())
    return cost_of(network, size, trains=trains)


@pytest.mark.parametrize(
    ("name", "millions", "billions"),
    # As published: arXiv 2207.10666, table 4, and arXiv 1512.03385 as timm counts it.
    [("tiny_vit_5m_224", 5.4, 1.3), ("tiny_vit_21m_224", 21, 4.3), ("resnet50", 25.6, 4.1)],
)
def test_parameters_and_multiply_adds_are_the_published_ones(name: str, millions: float, billions: float) -> None:
    found = cost(name, 1000, trains=False)
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.03)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=0.05)


def test_pooling_by_attention_is_measured_though_it_takes_a_weight_as_its_input() -> None:
    spec = ModelSpec(name="deit_tiny_patch16_224", kwargs={"global_pool": "map"})
    pooled = cost_of(without_memory(lambda: build_network(spec, 10, 224)), 224, trains=True)
    plain, width, tokens = cost("deit_tiny_patch16_224", 10), 192, 196
    # Keys and values of all patches; query, products with them, projection and MLP of one.
    products = 2 * width * width * tokens + width * width + 2 * width * tokens + width * width + 2 * 4 * width * width
    assert pooled.multiply_adds - plain.multiply_adds == products
    assert pooled.parameters > plain.parameters


def test_a_network_costs_the_same_with_memory_and_without() -> None:
    spec = ModelSpec(name="resnet10t")
    assert cost("resnet10t", 10, 64) == cost_of(build_network(spec, 10, 64), 64, trains=True)


def test_what_is_kept_for_the_backward_pass_is_that_of_one_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.Sigmoid())
    found = cost_of(network, 4, trains=True)
    # The input of the linear layer and the output of the sigmoid.
    assert found.kept_bytes == 4 * (3 * 4 * 4 + 5)
    assert found.multiply_adds == 3 * 4 * 4 * 5


def test_what_is_moved_is_what_each_layer_takes_and_gives_and_the_weights_once() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.Sigmoid(), nn.LayerNorm(5), nn.ReLU(inplace=True))
    weights = 3 * 4 * 4 * 5 + 5 + 5 + 5
    # Flattening moves nothing, and whatever writes to its input reads it first.
    assert cost_of(network, 4, trains=False).moved_bytes == 4 * (weights + (3 * 4 * 4 + 5) + 3 * (5 + 5))


def test_listed_inputs_of_the_largest_layer_count() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([images, images], dim=1) * self.scale

    assert cost_of(Joined(), 4, trains=False).largest_bytes == 4 * 4 * (3 * 4 * 4)


class Block(nn.Module):
    """What it takes, and two linear layers of it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.outer(self.inner(tokens))
        return tokens + added


class Turned(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.transpose(1, 2).contiguous().transpose(1, 2)


def blocks(count: int) -> nn.Sequential:
    images = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Flatten(2), nn.Linear(16, 6)
    return nn.Sequential(*images, nn.Sequential(*(Block() for _ in range(count))), nn.Flatten(), nn.Linear(36, 2))


def test_parts_add_up_to_the_network() -> None:
    network = blocks(2)
    names = ["0", "1", "3", "4.0", "4.0.inner", "4.1"]
    found, whole = costs_by_part(network, 4, names), cost_of(network, 4, trains=False)
    assert list(found) == [*names, REST]
    for of in ("parameters", "weight_bytes", "multiply_adds", "moved_bytes"):
        assert sum(getattr(each, of) for each in found.values()) == getattr(whole, of), of
    assert max(each.largest_bytes for each in found.values()) == whole.largest_bytes


def test_what_an_inner_part_takes_does_not_count_for_the_outer_one() -> None:
    alone, split = costs_by_part(blocks(1), 4, ["4.0"]), costs_by_part(blocks(1), 4, ["4.0", "4.0.inner"])
    inner, outer, both = split["4.0.inner"], split["4.0"], alone["4.0"]
    assert inner.parameters == outer.parameters == 6 * 6 + 6
    assert inner.multiply_adds == outer.multiply_adds == 6 * 6 * 6
    assert inner.moved_bytes == 4 * (6 * 6 + 6 + 2 * 36)
    assert outer.moved_bytes == both.moved_bytes - inner.moved_bytes
    assert split[REST] == alone[REST]


def test_buffers_are_weights_of_their_part_but_no_parameters() -> None:
    norm = costs_by_part(blocks(1), 4, ["1"])["1"]
    assert norm.parameters == 2 * 6
    assert norm.weight_bytes == 4 * 4 * 6 + 8  # running mean and variance, and the number of batches


def test_a_part_repeats_if_its_output_has_the_shape_and_layout_of_its_input() -> None:
    found = costs_by_part(nn.Sequential(*blocks(1)[:-2], Turned(), Turned()), 4, ["3", "4.0", "5", "6"])
    # Another width; a residual block; another layout; the same layout.
    assert [found[name].repeats for name in ("3", "4.0", "5", "6")] == [False, True, False, True]
    more, less = (costs_by_part(blocks(count), 4, ["4.0"]) for count in (3, 1))
    assert more["4.0"] == less["4.0"]
    assert more[REST].moved_bytes == less[REST].moved_bytes + 2 * less["4.0"].moved_bytes


def test_a_part_that_runs_twice_does_not_repeat() -> None:
    shared = Block()
    network = nn.Sequential(nn.Flatten(2), nn.Linear(16, 6), shared, shared)
    twice, once = costs_by_part(network, 4, ["2"])["2"], costs_by_part(network[:-1], 4, ["2"])["2"]
    assert twice.multiply_adds == 2 * once.multiply_adds
    assert (twice.repeats, once.repeats) == (False, True)


def test_a_frozen_body_keeps_no_activations() -> None:
    def build() -> nn.Module:
        network = build_network(ModelSpec(name="resnet10t"), 10, 64)
        network.requires_grad_(False)
        network.get_submodule("fc").requires_grad_(True)
        return network

    found, whole = cost_of(without_memory(build), 64, trains=True), cost("resnet10t", 10, 64)
    assert found.kept_bytes < whole.kept_bytes / 20
    assert 0 < found.trained < whole.trained == whole.parameters


def test_images_that_a_network_does_not_take_are_refused_by_their_size() -> None:
    network = without_memory(lambda: build_network(ModelSpec(name="deit_tiny_patch16_224"), 10, 224))
    with pytest.raises(ConfigError, match="256 x 256 pixels"):
        cost_of(network, 256, trains=True)


def test_a_network_that_cannot_be_built_without_memory_is_built_with_it() -> None:
    def build() -> nn.Module:
        return nn.Linear(int(torch.ones(1).item()), 2)  # looks at a number

    assert next(without_memory(build).parameters()).device.type == "cpu"


def test_what_is_wrong_with_a_network_is_said_as_elsewhere() -> None:
    with pytest.raises(ConfigError, match="cannot be built"):
        without_memory(lambda: build_network(ModelSpec(name="no_such_network"), 10, 32))
