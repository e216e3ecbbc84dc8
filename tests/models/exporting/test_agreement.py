"""What answers otherwise than the network is refused, by however little, and whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.models.exporting.networks import TINY_VIT, deployed
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.exporting.agreement import BOUND, require_agreement
from tinyvit_kd.models.exporting.deployed import DeployedNetwork


@pytest.fixture(scope="module")
def network() -> DeployedNetwork:
    return deployed(TINY_VIT, 32)


def fail(images: torch.Tensor) -> torch.Tensor:
    raise RuntimeError(f"no {len(images)} images at a time\nand more")


OTHERS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "other values": (lambda logits: logits + 1.1e-4 * max(1, float(logits.abs().max())), "differ by"),
    "one other value": (lambda logits: logits + torch.eye(*logits.shape) * 0.1, "differ by"),
    "NaN": (lambda logits: logits * torch.nan, "differ by nan"),
    "another order of images": (lambda logits: logits.flip(0), "differ by"),
    "another number of images": (lambda logits: logits[:1], "logits [1, 7], not [3, 7]"),
    "an error": (fail, "no 1 images at a time"),
}


@pytest.mark.parametrize(("change", "told"), OTHERS.values(), ids=OTHERS)
def test_another_answer_is_refused(
    change: Callable[[torch.Tensor], torch.Tensor], told: str, network: DeployedNetwork
) -> None:
    with pytest.raises(CheckpointError) as caught:
        require_agreement(network, lambda images: change(network(images)), "the file")
    assert told in str(caught.value)
    assert "the file does not answer as the network does" in str(caught.value)


def test_rounding_is_no_difference(network: DeployedNetwork) -> None:
    found = require_agreement(network, lambda images: network(images) + 0.5 * BOUND, "the file")
    assert found == pytest.approx(0.5 * BOUND, rel=0.05)


def test_a_bound_of_zero_asks_for_equality(network: DeployedNetwork) -> None:
    assert require_agreement(network, network, "the file", bound=0.0) == 0
    with pytest.raises(CheckpointError, match="does not answer"):
        require_agreement(network, lambda images: network(images) + 1e-5, "the file", bound=0.0)


def test_a_network_that_answers_with_nan_is_not_exported() -> None:
    broken = deployed(TINY_VIT, 32)
    with torch.no_grad():
        broken.network.get_parameter("head.fc.bias")[0] = torch.nan
    with pytest.raises(CheckpointError, match="the network's answers are not finite"):
        require_agreement(broken, broken, "the file")
