"""Networks from names and from widths."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.models.networks import TINY, TINY_SPEC
from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.input_size import require_size

# The published students (arXiv 2207.10666, table 7): widths, and parameters with 1000 classes.
PUBLISHED = {
    "tiny_vit_5m_224": ((64, 128, 160, 320), 5_392_764),
    "tiny_vit_11m_224": ((64, 128, 256, 448), 10_996_972),
    "tiny_vit_21m_224": ((96, 192, 384, 576), 21_198_568),
}
LARGE = {"tiny_vit_21m_384": 21_230_488, "tiny_vit_21m_512": 21_268_120}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_students_are_the_same_by_name_and_by_widths(name: str) -> None:
    widths, parameters = PUBLISHED[name]
    in_timm = timm.create_model(name, num_classes=1000).eval()
    ours = build_network(ModelSpec(tiny_vit=TinyVitWidths(embed_dims=widths)), 1000, 224).eval()
    ours.load_state_dict(in_timm.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(images), in_timm(images))
    assert count(ours) == count(in_timm) == parameters


@pytest.mark.parametrize("name", LARGE)
def test_the_students_for_higher_resolutions_have_larger_windows(name: str) -> None:
    assert count(build_network(ModelSpec(name=name), 1000, int(name[-3:]))) == LARGE[name]


def test_first_weights_follow_from_the_seed_and_leave_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_network(TINY_SPEC, 5, 32, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])


def test_heads_are_32_wide_unless_they_are_given() -> None:
    spec = ModelSpec(tiny_vit=TinyVitWidths(embed_dims=(16, 32, 64, 96), depths=(1, 1, 1, 1)))
    biases = {name: tensor for name, tensor in build_network(spec, 5, 32).state_dict().items() if "biases" in name}
    assert [len(tensor) for tensor in biases.values()] == [1, 2, 3]


@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "levit_128s", "tiny_vit_5m_224", "resnet18"]
)
def test_a_named_model_takes_images_of_the_asked_size(name: str) -> None:
    network = build_network(ModelSpec(name=name), 7, 64).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_further_arguments_and_stochastic_depth_reach_the_model() -> None:
    spec = ModelSpec(name="deit_tiny_patch16_224", drop_path_rate=0.5, kwargs={"img_size": 32, "depth": 2})
    network = build_network(spec, 7, 224)
    assert network.state_dict()["pos_embed"].shape[1] == 5
    assert "drop_prob=0.500" in repr(network)


WRONG = {
    "unknown name": ModelSpec(name="tiny_vit_7m_224"),
    "unknown argument": ModelSpec(name="resnet18", kwargs={"windows": 7}),
    "width not divisible by heads": ModelSpec(tiny_vit=TINY.model_copy(update={"num_heads": (1, 5, 2, 2)})),
    "no stochastic depth": ModelSpec(name="vgg11", drop_path_rate=0.1),
}


@pytest.mark.parametrize("spec", WRONG.values(), ids=WRONG.keys())
def test_what_timm_refuses_is_a_mistake_of_the_recipe(spec: ModelSpec) -> None:
    with pytest.raises(ConfigError, match="cannot be built") as caught:
        build_network(spec, 5, 96)
    assert caught.value.found
    assert ("timm.list_models()" in caught.value.fix) == (spec.name == "tiny_vit_7m_224")


def test_a_network_that_memory_does_not_hold_is_not_called_unknown() -> None:
    with pytest.raises(ConfigError, match="cannot be built") as caught:
        build_network(ModelSpec(tiny_vit=TINY), 1 << 50, 32)
    assert "more memory" in caught.value.fix


@pytest.mark.parametrize(
    "kwargs", [{}, {"img_size": 32}, {"img_size": [32, 32]}, {"img_size": 64, "dynamic_img_size": True}]
)
def test_arguments_may_name_the_size_of_the_images(kwargs: dict[str, Any]) -> None:
    require_size(kwargs, 32, "here")
    require_size(kwargs, None, "here")


def test_arguments_that_ask_for_images_of_another_size_are_a_mistake() -> None:
    for size in (64, [32, 64]):
        with pytest.raises(ConfigError, match=r"another size than it gets.*Expected: 32"):
            require_size({"img_size": size}, 32, "here")


def test_a_distilled_network_starts_as_deits_code_starts_it() -> None:
    """facebookresearch/deit, models.py, and timm 0.3's VisionTransformer: truncated normal, deviation 0.02, for all."""
    name = "deit_tiny_distilled_patch16_224"
    network = build_network(ModelSpec(name=name, kwargs={"depth": 1}), 1000, 224, seed=5)
    drawn = ("cls_token", "dist_token", "pos_embed", "head.weight", "head_dist.weight", "blocks.0.attn.qkv.weight")
    for each in drawn:
        values = network.get_parameter(each)
        assert values.std().item() == pytest.approx(0.02, rel=0.2), each
        assert abs(values.mean().item()) < 0.005, each
    for each in ("head.bias", "head_dist.bias", "blocks.0.attn.qkv.bias"):
        assert not network.get_parameter(each).any(), each
    with torch.random.fork_rng():
        torch.manual_seed(5)
        in_timm = timm.create_model(name, depth=1).state_dict()
    others = {each: value for each, value in network.state_dict().items() if each != "cls_token"}
    assert all(torch.equal(value, in_timm[each]) for each, value in others.items())
