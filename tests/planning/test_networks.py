"""What a network takes is measured on the network itself, without memory for its numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import NetworkCost, cost_of, without_memory


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
