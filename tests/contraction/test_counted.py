"""What shapes cost, by the published numbers and by another counter."""

from __future__ import annotations

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import NetworkCost, cost_of, without_memory

# Millions of parameters and billions of multiply-adds as published: arXiv 2207.10666, table 4.
PUBLISHED = {"tiny_vit_5m_224": (5.4, 1.3), "tiny_vit_11m_224": (11, 2.0), "tiny_vit_21m_224": (21, 4.3)}


def cost(shape: Shape) -> NetworkCost:
    return cost_of(without_memory(lambda: build_network(shape.spec(), 1000, 224)), 224, trains=False)


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_of_the_published_shapes_are_timms_and_fvcores(name: str) -> None:
    found = cost(shape_of(ModelSpec(name=name), 1000, 224))
    network = timm.create_model(name, num_classes=1000).eval()
    assert found.parameters == sum(each.numel() for each in network.parameters())
    assert found.multiply_adds == counted_by_fvcore(network)
    millions, billions = PUBLISHED[name]
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, abs=0.05)


def counted_by_fvcore(network: torch.nn.Module) -> int:
    """Multiply-adds of matrix products and convolutions, attention's among them, which is all that we count.

    fvcore adds operations of norms and pooling, which are no multiply-adds, and does not see into fused attention.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.__dict__["fused_attn"] = False
    counter = FlopCountAnalysis(network, torch.zeros(1, 3, 224, 224))
    found = counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    assert set(found) == {"linear", "conv", "matmul", "batch_norm", "layer_norm", "adaptive_avg_pool2d"}
    return int(found["linear"] + found["conv"] + found["matmul"])
