"""What shapes take is what networks of that shape take."""

from __future__ import annotations

import pytest

from tests.contraction.known_shapes import PUBLISHED, small, vit
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network


@pytest.mark.parametrize(("name", "millions", "billions"), [("5M", 5.4, 1.3), ("11M", 11, 2.0), ("21M", 21, 4.3)])
def test_the_published_shapes_cost_what_the_paper_says(name: str, millions: float, billions: float) -> None:
    found = costs_of(PUBLISHED[name], 1000, 224)  # arXiv 2207.10666, table 4
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.02)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=0.05)


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
