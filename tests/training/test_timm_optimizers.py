"""timm's optimisers by name: which can be used, what they are given, and what a checkpoint keeps of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from timm.models.tiny_vit import TinyVit
from torch import nn

from benchmarks.tiny_world import NETWORK, SIZE
from tinyvit_kd.config.optim import OptimConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.checkpoint import load_checkpoint, save_checkpoint
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.optim import build_optimizer, parameter_groups
from tinyvit_kd.training.optimizer_state import state_bytes
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.timm_optimizers import require_optimizer, usable_optimizers

BATCH, CLASSES, STEPS = 4, 3, 4
KNOWN = set(timm.optim.list_optimizers())
COMMON = ["adamw", "sgd", "lamb", "lion", "adan", *{"muon"} & KNOWN]
# One of each class; the others differ in arguments.
CLASSES_OF = {timm.optim.get_optimizer_info(name).opt_class: name for name in [*usable_optimizers(), *COMMON]}
NAMES = sorted(CLASSES_OF.values())


def config_of(name: str, **fields: Any) -> OptimConfig:
    return OptimConfig.model_validate({"name": name, "base_lr": 1e-3, "lr_batch": BATCH, "layer_decay": 0.8} | fields)


def without_layers(name: str, **fields: Any) -> OptimConfig:
    """For networks that do not say which layers they have."""
    return config_of(name, layer_decay=1.0, **fields)


def begin(config: OptimConfig, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    model = TinyVit(**NETWORK, num_classes=CLASSES, drop_path_rate=0.0)
    return TrainState(model, build_optimizer(model, config, BATCH), None)


def train(state: TrainState, config: OptimConfig, steps: range) -> None:
    """Steps whose images follow from their numbers."""
    rates = build_scheduler(state.optimizer, config, STEPS, 1, BATCH)
    for step in steps:
        rates.step_update(step)
        images = torch.randn(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(state.model(images), torch.arange(BATCH) % CLASSES)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step = step + 1


def written(state: TrainState, folder: Path) -> Path:
    content = {**state.gather(solo_job()), "identity": {}, "kept": {}}
    return save_checkpoint(folder, content, state.step, keep=2)


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same bits."""
    if torch.is_tensor(one):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(each, other[name]) for name, each in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    whole, first, second = begin(config), begin(config), begin(config, seed=1)
    train(whole, config, range(STEPS))
    train(first, config, range(STEPS // 2))
    second.restore(load_checkpoint(written(first, tmp_path / "first")), solo_job())
    train(second, config, range(STEPS // 2, STEPS))
    assert same(
        load_checkpoint(written(second, tmp_path / "second")), load_checkpoint(written(whole, tmp_path / "whole"))
    )
    assert all(torch.isfinite(value).all() for value in whole.model.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_moments_take_as_many_bytes_as_was_planned(name: str) -> None:
    config = config_of(name)
    state = begin(config)
    planned = state_bytes(state.model, config)
    train(state, config, range(1))
    kept = [value for moments in state.optimizer.state.values() for value in moments.values()]
    found = sum(value.nbytes for value in kept if torch.is_tensor(value) and value.ndim)
    assert planned == pytest.approx(found, rel=0.02 if "factor" in name else 0)  # factors are those of stand-ins
    with torch.device("meta"):
        elsewhere = TinyVit(**NETWORK, num_classes=CLASSES)
    assert state_bytes(elsewhere, config) == planned


def test_moments_of_large_tensors_are_counted_without_them() -> None:
    with torch.device("meta"):
        network = nn.Linear(10**6, 10**5, bias=False)
    assert state_bytes(network, without_layers("sgd")) == 4 * 10**11
    assert state_bytes(network, without_layers("adamw")) == 8 * 10**11
    assert state_bytes(network, without_layers("adamw", kwargs={"amsgrad": True})) == 12 * 10**11


def test_adamw_is_torchs_with_the_fused_kernel_and_recipes_that_name_it_not_are_the_same() -> None:
    plain = OptimConfig(base_lr=1e-3)
    said = OptimConfig(base_lr=1e-3, name="adamw", betas=(0.9, 0.999), eps=1e-8)
    expected = '"betas":[0.9,0.999],"eps":1e-8,"clip_grad":5.0,"layer_decay":1.0}'
    assert plain.model_dump_json() == said.model_dump_json()
    assert plain.model_dump_json().endswith(expected)
    assert plain.model_dump(exclude_unset=True) == {"base_lr": 1e-3}
    network = nn.Linear(3, 2)
    ours = build_optimizer(network, plain, 512)
    torchs = torch.optim.AdamW(parameter_groups(network, 0.05, 1.0), lr=1e-3, weight_decay=0.05, fused=True)
    assert type(ours) is torch.optim.AdamW
    assert ours.state_dict() == torchs.state_dict()


def test_another_optimiser_is_a_part_of_what_is_written() -> None:
    config = config_of("sgd", momentum=0.8, kwargs={"dampening": 0.0})
    assert OptimConfig.model_validate(config.model_dump(mode="json")) == config
    assert {"name": "sgd", "momentum": 0.8}.items() <= config.model_dump().items()


def test_settings_reach_the_optimiser() -> None:
    network = nn.Linear(3, 2)
    sgd = build_optimizer(network, without_layers("sgd"), BATCH).defaults
    assert (sgd["nesterov"], sgd["momentum"], sgd["weight_decay"]) == (True, 0.9, 0.05)
    assert build_optimizer(network, without_layers("sgd", momentum=0.5), BATCH).defaults["momentum"] == 0.5
    lion = build_optimizer(network, without_layers("lion"), BATCH).defaults
    assert tuple(lion["betas"]) == (0.9, 0.99)
    adan = build_optimizer(network, without_layers("adan", betas=(0.9, 0.8, 0.7), eps=1e-4), BATCH).defaults
    assert (tuple(adan["betas"]), adan["eps"]) == ((0.9, 0.8, 0.7), 1e-4)
    lamb = build_optimizer(network, without_layers("lamb", kwargs={"max_grad_norm": None}), BATCH).defaults
    assert lamb["max_grad_norm"] is None


@pytest.mark.skipif("muon" not in KNOWN, reason="timm has no Muon before 1.0.20")
def test_muon_leaves_what_is_no_matrix_to_adamw() -> None:
    config = config_of("muon", weight_decay=0.0)
    state = begin(config)
    train(state, config, range(1))
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    by_muon = {names[each] for each, kept in state.optimizer.state.items() if kept["use_muon"]}  # type: ignore[index]
    assert "stages.1.blocks.0.attn.qkv.weight" in by_muon
    assert not [name for name in by_muon if "attention_biases" in name or name.endswith("bias")]
    own = build_optimizer(nn.Linear(3, 2), without_layers("muon"), BATCH).defaults["momentum"]
    assert (
        own
        == timm.optim.get_optimizer_class("muon", bind_defaults=False)([nn.Parameter(torch.ones(2, 2))]).defaults[
            "momentum"
        ]
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "adamv"}, ["timm knows no optimiser of this name", "adam"]),
        ({"name": "lbfgs"}, ["timm knows no optimiser", "list_optimizers"]),
        ({"name": "lookahead_adamw"}, ["timm knows no optimiser", "adamw"]),
        ({"name": "adahessian"}, ["second derivatives"]),
        ({"name": "bnbadamw8bit"}, ["another package, bitsandbytes"]),
        ({"name": "kron"}, ["generator of its own"]),
        ({"name": "sgd", "betas": (0.9, 0.99)}, ["does not take betas", "leave it out"]),
        ({"name": "lion", "eps": 1e-6}, ["does not take eps", "optim.name: lion"]),
        ({"momentum": 0.9}, ["does not take momentum", "optim.name: adamw"]),
        ({"name": "adan", "betas": (0.9, 0.99)}, ["so many betas", "give 3 numbers"]),
        ({"betas": (0.9,)}, ["so many betas", "give 2 numbers"]),
        ({"name": "sgd", "kwargs": {"lr": 0.1}}, ["lr from kwargs", "optim.base_lr"]),
        ({"name": "lamb", "kwargs": {"max_gradnorm": 2}}, ["does not take max_gradnorm", "max_grad_norm"]),
        ({"name": "sgd", "kwargs": {"dampening": 0.5}}, ["cannot be made with these settings", "dampening: 0.5"]),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(fields: dict[str, Any], told: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        require_optimizer(config_of(**{"name": "adamw"} | fields))
    assert all(text in str(refused.value) for text in told), refused.value
