"""Parameter groups: which parameters decay, and how much slower lower layers learn."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from tests.models.official_tiny_vit import DEPTHS, PUBLISHED, Shape, published_shapes, timm_shell, to_official
from tests.models.shells import shells
from tinyvit_kd.config.training import OptimConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.optim import build_optimizer, dist_token_decays_in, layer_scales, parameter_groups

Rule = tuple[float, float]  # weight decay, scale of the learning rate


def official_scale(name: str, decay: float) -> float:
    """The rule of ``set_layer_lr_decay``, on an official name."""
    parts = name.split(".")
    if parts[0] == "patch_embed":
        block = 0
    elif parts[0] in ("norm_head", "head"):
        block = sum(DEPTHS) - 1
    elif parts[2] == "downsample":
        block = sum(DEPTHS[: int(parts[1]) + 1]) - 1  # with the last block of the stage that it ends
    else:
        block = sum(DEPTHS[: int(parts[1])]) + int(parts[3])
    return decay ** (sum(DEPTHS) - 1 - block)


def official_decays(name: str, shape: Shape) -> bool:
    """The rule of ``set_weight_decay``, on an official name."""
    return len(shape) != 1 and not name.endswith(".bias") and "attention_biases" not in name


def settings_by_name(model: nn.Module, weight_decay: float, layer_decay: float) -> dict[str, Rule]:
    """Weight decay and scale of every parameter; fails if one is in two groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, weight_decay, layer_decay)
    listed = [
        (names[id(parameter)], (group["weight_decay"], group["lr_scale"]))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def assert_same_rules(found: dict[str, Rule], expected: dict[str, Rule]) -> None:
    assert found.keys() == expected.keys()
    for name, (decay, scale) in expected.items():
        assert found[name][0] == decay, name
        assert found[name][1] == pytest.approx(scale, rel=1e-12), name


@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
@pytest.mark.parametrize("name", PUBLISHED)
def test_tiny_vit_has_the_official_weight_decay_and_scales(name: str, layer_decay: float) -> None:
    found = settings_by_name(timm_shell(name), 0.05, layer_decay)
    expected = {
        official: (0.05 if official_decays(official, shape) else 0.0, official_scale(official, layer_decay))
        for official, shape in published_shapes(name).items()
        if not official.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert_same_rules({to_official(each): rule for each, rule in found.items()}, expected)


def test_blocks_are_numbered_through_stages_of_any_depth() -> None:
    with shells():
        model = timm.create_model("tiny_vit_5m_224", depths=(1, 3, 1, 2))
    scales = layer_scales(model, 0.5)
    expected = {
        "patch_embed.conv1.conv.weight": 6,
        "stages.0.blocks.0.conv1.conv.weight": 6,
        "stages.1.downsample.conv1.conv.weight": 6,
        "stages.1.blocks.0.attn.qkv.weight": 5,
        "stages.1.blocks.2.attn.qkv.weight": 3,
        "stages.2.downsample.conv1.conv.weight": 3,
        "stages.2.blocks.0.attn.qkv.weight": 2,
        "stages.3.downsample.conv1.conv.weight": 2,
        "stages.3.blocks.1.attn.qkv.weight": 0,
        "head.norm.weight": 0,
        "head.fc.weight": 0,
    }
    assert {name: scales[name] for name in expected} == {name: 0.5**power for name, power in expected.items()}


@pytest.mark.parametrize("layer_decay", [1.0, 0.65])
@pytest.mark.parametrize(
    "name", ["deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224", "convnext_atto", "resnet18", "regnety_002"]
)
def test_other_models_have_timms_groups(name: str, layer_decay: float) -> None:
    with shells():
        model = timm.create_model(name)
    names = {id(parameter): each for each, parameter in model.named_parameters()}
    exempt = model.no_weight_decay() - {"dist_token"} if hasattr(model, "no_weight_decay") else ()
    groups: list[dict[str, Any]] = param_groups_layer_decay(model, 0.05, exempt, layer_decay=layer_decay)
    expected = {
        names[id(parameter)]: (float(group["weight_decay"]), float(group["lr_scale"]))
        for group in groups
        for parameter in group["params"]
    }
    assert_same_rules(settings_by_name(model, 0.05, layer_decay), expected)


def test_of_deits_tokens_the_distillation_token_decays_as_in_its_code() -> None:
    """timm 0.3's ``no_weight_decay``, which DeiT's class inherits, names position embeddings and class token."""
    model = timm.create_model("deit_tiny_distilled_patch16_224", depth=1)
    found = settings_by_name(model, 0.05, 1.0)
    assert [found[name][0] for name in ("pos_embed", "cls_token", "dist_token")] == [0.0, 0.0, 0.05]
    assert found["blocks.0.attn.qkv.weight"][0] == 0.05


@pytest.mark.parametrize("weight_decay", [0.05, 0.0])
@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "tiny_vit_5m_224"])
def test_a_checkpoint_says_whether_the_distillation_token_decayed_in_it(
    name: str, layer_decay: float, weight_decay: float
) -> None:
    model = timm.create_model(name, **({"depth": 2, "embed_dim": 24} if "deit" in name else {}))
    config = OptimConfig(base_lr=1e-3, layer_decay=layer_decay, weight_decay=weight_decay)
    for decays in (True, False):
        optimizer = build_optimizer(model, config, 512, dist_token_decays=decays)
        saved = optimizer.state_dict()
        found = dist_token_decays_in(saved, model, config)
        assert found == decays or weight_decay == 0 or "deit" not in name
        build_optimizer(model, config, 512, dist_token_decays=found).load_state_dict(saved)


def test_layers_of_a_distilled_deit_are_numbered_from_its_tokens_to_its_heads() -> None:
    with shells():
        model = timm.create_model("deit_tiny_distilled_patch16_224", depth=3)
    powers = {
        **dict.fromkeys(("cls_token", "dist_token", "pos_embed", "patch_embed.proj.weight"), 4),
        **{f"blocks.{block}.attn.qkv.weight": 3 - block for block in range(3)},
        "norm.weight": 1,
        **dict.fromkeys(("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"), 0),
    }
    scales = layer_scales(model, 0.5)
    assert {name: scales[name] for name in powers} == {name: 0.5**power for name, power in powers.items()}


def test_a_network_that_timm_does_not_know_has_no_layers_to_tell_apart() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ConfigError, match="no layer decay can be applied") as caught:
        settings_by_name(model, 0.1, 0.5)
    assert (caught.value.where, caught.value.fix.startswith("set it to 1")) == ("optim.layer_decay", True)
    assert settings_by_name(model, 0.1, 1) == {
        "0.weight": (0.1, 1.0),
        "0.bias": (0.0, 1.0),
        "1.weight": (0.0, 1.0),
        "1.bias": (0.0, 1.0),
    }


def test_frozen_parameters_are_left_out() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    model.conv1.weight.requires_grad = False
    assert "conv1.weight" not in settings_by_name(model, 0.1, 0.5)


def test_a_step_uses_scaled_rates_and_decays_weights_but_not_biases() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optim = OptimConfig(base_lr=0.01, warmup_lr=0, min_lr=0.001, weight_decay=0.1, clip_grad=None)
    optimizer = build_optimizer(model, optim, 1024)
    build_scheduler(optimizer, optim, 10, 0, 1024).step_update(0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    rate = 0.02  # the base rate at twice the batch of 512; Adam's first step is of length 1
    torch.testing.assert_close(model.weight.detach(), before["weight"] * (1 - rate * 0.1) - rate)
    torch.testing.assert_close(model.bias.detach(), before["bias"] - rate)


def test_an_optimiser_continues_from_its_state_with_its_groups() -> None:
    optim = OptimConfig(base_lr=0.01, layer_decay=0.5)
    model = timm.create_model("resnet18", num_classes=3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    first = build_optimizer(model, optim, 512)
    first.step()
    second = build_optimizer(model, optim, 512)
    second.load_state_dict(first.state_dict())
    assert [group["lr_scale"] for group in second.param_groups] == [group["lr_scale"] for group in first.param_groups]
    assert len({group["lr_scale"] for group in second.param_groups}) > 1
