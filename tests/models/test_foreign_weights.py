"""Weights from elsewhere are loaded if they fit, and refused with our own error if not."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.models.networks import tiny
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.load_weights import InitialWeights, load_into, resize_attention_biases
from tinyvit_kd.models.modelfile import StateDict, load_model_file


@pytest.mark.parametrize("side", [12, 16, 4])
def test_constant_biases_stay_constant_at_any_resolution(side: int) -> None:
    heads = torch.tensor([[0.25], [-3.0]])
    torch.testing.assert_close(resize_attention_biases(heads.expand(2, 49), side**2), heads.expand(2, side**2))


def test_half_precision_biases_are_resized_in_float32_and_stay_half() -> None:
    biases = torch.randn(2, 49).half()
    resized = resize_attention_biases(biases, 144)
    assert resized.dtype == torch.float16
    assert torch.equal(resized, resize_attention_biases(biases.float(), 144).half())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_safetensors_file_of_a_wrapped_network_loses_the_wrappers_prefix(tmp_path: Path, prefix: str) -> None:
    own = tiny().state_dict()
    save_file({f"{prefix}{name}": tensor for name, tensor in own.items()}, tmp_path / "weights.safetensors")
    network = tiny(seed=1)
    load_into(network, InitialWeights(load_model_file(tmp_path / "weights.safetensors")[0], exact_head=True), "here")
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())


def deit(kind: str) -> nn.Module:
    network: nn.Module = timm.create_model(
        f"deit_tiny_{kind}patch16_224", depth=1, embed_dim=12, img_size=64, num_classes=4
    )
    return network


def spoilt(network: nn.Module, ending: str, value: torch.Tensor) -> StateDict:
    """A network's state with another value for the tensors whose names have this ending."""
    return {name: value if name.endswith(ending) else own for name, own in network.state_dict().items()}


CLIP_WITHOUT_LAYERS = {"visual.class_embedding": torch.zeros(4), "head.weight": torch.zeros(4, 4)}


@pytest.mark.parametrize(
    ("state", "network", "difference"),
    [
        pytest.param(deit("").state_dict(), deit("distilled_"), "dist_token is missing", id="not distilled"),
        pytest.param(deit("distilled_").state_dict(), deit(""), "pos_embed is [1, 18, 12]", id="distilled"),
        pytest.param(spoilt(deit(""), "pos_embed", torch.zeros(5)), deit(""), "pos_embed is [5]", id="flat embedding"),
        pytest.param(spoilt(tiny(), "attention_biases", torch.zeros(1, 15)), tiny(), "is [1, 15]", id="not square"),
        pytest.param(spoilt(tiny(), "attention_biases", torch.zeros(16)), tiny(), "is [16]", id="flat biases"),
        pytest.param(CLIP_WITHOUT_LAYERS, deit(""), "cls_token is missing", id="half a CLIP"),
        pytest.param({}, tiny(), "is missing", id="nothing"),
    ],
)
def test_weights_that_cannot_be_made_to_fit_are_refused_naming_a_difference(
    state: StateDict, network: nn.Module, difference: str
) -> None:
    with pytest.raises(CheckpointError, match="belong to another network") as caught:
        load_into(network, InitialWeights(state, exact_head=True), "here")
    assert difference in caught.value.found
