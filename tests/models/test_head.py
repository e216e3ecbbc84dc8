"""Which modules are a network's heads, the logits of each, and training the heads alone."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from tests.models.networks import tiny
from tests.models.shells import shells
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head import distilled_heads, forward_heads, freeze_body, head_modules

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 4}


def distilled_deit() -> VisionTransformerDistilled:
    """A DeiT with two heads, in evaluation mode."""
    network = timm.create_model("deit_tiny_distilled_patch16_224", **SMALL)
    assert isinstance(network, VisionTransformerDistilled)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("deit_tiny_distilled_patch16_224", {"head": "head", "head_dist": "head_dist"}),
        ("levit_128s", {"head": "head.linear", "head_dist": "head_dist.linear"}),
        ("efficientformer_l1", {"head": "head", "head_dist": "head_dist"}),
        ("repvit_m1", {"head": "head.head.l", "head_dist": "head.head_dist.l"}),
        ("crossvit_tiny_240", {}),
        ("volo_d1_224", {}),
        ("deit_tiny_patch16_224", {}),
        ("tiny_vit_5m_224", {}),
    ],
)
def test_networks_with_a_distillation_head_are_recognised(name: str, modules: dict[str, str]) -> None:
    with shells():
        network = timm.create_model(name, num_classes=3)
    assert distilled_heads(network) == modules
    for module in head_modules(network):
        assert network.get_submodule(module).out_features == 3


def test_a_network_with_one_head_has_no_logits_by_head() -> None:
    images = torch.randn(2, 3, 32, 32)
    logits, by_head = forward_heads(tiny(), images)
    assert by_head == {}
    assert torch.equal(logits, tiny()(images))


def test_each_head_of_a_distilled_network_gives_its_own_logits() -> None:
    network = distilled_deit()
    images = torch.randn(2, 3, 32, 32)
    tokens = network.forward_features(images)
    logits, by_head = forward_heads(network, images)
    assert list(by_head) == ["head", "head_dist"]
    torch.testing.assert_close(by_head["head"], network.head(tokens[:, 0]))
    torch.testing.assert_close(by_head["head_dist"], network.head_dist(tokens[:, 1]))
    assert torch.equal(logits, network(images))
    assert not network.head._forward_hooks


def test_each_head_of_a_compiled_network_gives_its_own_logits() -> None:
    network = distilled_deit()
    images = torch.randn(2, 3, 32, 32)
    expected = forward_heads(network, images)
    network.compile(backend="eager")
    network(images)  # traced without hooks
    _, by_head = forward_heads(network, images)
    assert torch.equal(by_head["head_dist"], expected[1]["head_dist"])


def test_with_a_frozen_body_only_the_heads_are_trained() -> None:
    deit, tiny_vit = distilled_deit(), tiny()
    for network in (deit, tiny_vit):
        freeze_body(network)
    names = [[name for name, each in network.named_parameters() if each.requires_grad] for network in (deit, tiny_vit)]
    assert names == [
        ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"],
        ["head.fc.weight", "head.fc.bias"],
    ]


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.trainable"):
        freeze_body(nn.Linear(2, 2))
