"""What is exported answers as evaluation scores the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.exporting.networks import CONVNET, DEIT, TINY_VIT, deployed
from tests.models.networks import MEAN, STD
from tinyvit_kd.models.exporting.deployed import DeployedNetwork, attention_biases_computed
from tinyvit_kd.models.head import class_probabilities
from tinyvit_kd.models.normalizer import Normalizer

SPECS = {"TinyViT": TINY_VIT, "DeiT with two heads": DEIT, "a convnet": CONVNET}
NORMALIZE = Normalizer(MEAN, STD, torch.device("cpu"))
each_network = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@each_network
@torch.inference_mode()
def test_the_softmax_of_its_logits_is_what_evaluation_scores(spec: dict[str, Any]) -> None:
    network = deployed(spec, 32)
    views = network.sample_images(3, seed=0)
    expected = class_probabilities(network.network, NORMALIZE(views))
    torch.testing.assert_close(network(views).softmax(dim=1), expected, rtol=1e-5, atol=1e-7)
    assert expected.std(dim=0).max() > 1e-3, "the images matter"


@each_network
@torch.inference_mode()
def test_images_that_were_normalised_before_get_the_same_answer(spec: dict[str, Any]) -> None:
    levels = deployed(spec, 32)
    normalized = DeployedNetwork(levels.network, levels.card, "normalized").eval()
    views = levels.sample_images(3, seed=0)
    assert torch.equal(normalized.sample_images(3, seed=0), NORMALIZE(views))
    torch.testing.assert_close(normalized(NORMALIZE(views)), levels(views), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_network_with_one_head_keeps_its_own_logits() -> None:
    network = deployed(TINY_VIT, 32, "normalized")
    images = network.sample_images(3, seed=0)
    assert torch.equal(network(images), network.network(images))


@torch.inference_mode()
def test_two_heads_that_are_sure_of_different_classes_share_the_probability() -> None:
    network = deployed(DEIT, 32)
    for name, favourite in (("head", 2), ("head_dist", 5)):
        network.network.get_submodule(name).get_parameter("bias")[favourite] = 1000.0
    probabilities = network(network.sample_images(2, seed=0)).softmax(dim=1)
    torch.testing.assert_close(probabilities[:, [2, 5]], torch.full((2, 2), 0.5))


def test_attention_biases_follow_from_their_weights_while_a_network_is_exported() -> None:
    network = deployed(TINY_VIT, 32, "normalized")
    images = network.sample_images(2, seed=0)
    with torch.inference_mode():
        before = network(images)
        with attention_biases_computed(network):
            inside = network(images)
        assert torch.equal(inside, before)
    own = [name for module in network.modules() for name in vars(module) if name == "get_attention_biases"]
    assert own == [], "what was put in place of timm's is gone"
    with attention_biases_computed(network):
        assert len(list(network.state_dict())) == len(list(deployed(TINY_VIT, 32).state_dict()))
