"""Learning rates of every published and every shipped recipe, step by step."""

from __future__ import annotations

from math import cos, pi
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.config.training import OptimConfig
from tinyvit_kd.training.learning_rate import build_scheduler, scaled_rates

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
STEPS_PER_EPOCH = 7


class Recipe(NamedTuple):
    """A column of the papers' tables of hyperparameters; rates are for a batch of 512."""

    epochs: int
    warmup_epochs: int
    batch: int
    base: float
    minimum: float
    warmup: float
    weight_decay: float
    layer_decay: float
    frozen_norm: bool


# TinyViT, arXiv 2207.10666, section 4.1 and the official configurations; DeiT, arXiv 2012.12877, table 9, whose warm-up
# and minimum rates are not scaled, written here for its batch of 1024.
DISTILLED_22K = Recipe(90, 5, 4096, 2.5e-4, 5e-6, 5e-7, 0.01, 1.0, False)
FINETUNED_1K = Recipe(30, 5, 1024, 2.5e-4, 1e-5, 5e-7, 1e-8, 0.8, True)
SCRATCH_1K = Recipe(300, 20, 1024, 5e-4, 5e-6, 5e-7, 0.05, 1.0, False)
HIGHER_RESOLUTION = Recipe(30, 5, 1024, 2e-5, 2e-7, 2e-8, 1e-8, 1.0, True)
DEIT = Recipe(300, 5, 1024, 5e-4, 1e-5 / 2, 1e-6 / 2, 0.05, 1.0, False)
PUBLISHED = {
    "22k distillation": DISTILLED_22K,
    "22k to 1k": FINETUNED_1K,
    "1k from scratch": SCRATCH_1K,
    "384 and 512 pixels": HIGHER_RESOLUTION,
    "DeiT": DEIT,
}
SHIPPED = {
    **{
        f"pretrain/tiny_vit_{size}_22k": (DISTILLED_22K, drop)
        for size, drop in (("5m", 0.0), ("11m", 0.0), ("21m", 0.1))
    },
    **{
        f"finetune/tiny_vit_{size}_22kto1k": (FINETUNED_1K, drop)
        for size, drop in (("5m", 0.0), ("11m", 0.0), ("21m", 0.1))
    },
    **{f"scratch/tiny_vit_{size}_1k": (SCRATCH_1K, drop) for size, drop in (("5m", 0.0), ("11m", 0.1), ("21m", 0.2))},
    # Not published: the numbers from scratch, without stochastic depth.
    **{f"pretrain/tiny_vit_{size}_1k_distill": (SCRATCH_1K, 0.0) for size in ("5m", "11m", "21m")},
    **{f"finetune/tiny_vit_21m_{size}": (HIGHER_RESOLUTION, 0.1) for size in (384, 512)},
}


def load(name: str) -> TrainingConfig:
    path = CONFIGS / f"{name}.yaml"
    return load_recipe(PretrainConfig, path) if "pretrain" in name else load_recipe(FinetuneConfig, path)


def expected_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, which replaces the beginning of the cosine over the whole training."""
    scale = recipe.batch / 512
    peak, minimum, warmup = recipe.base * scale, recipe.minimum * scale, recipe.warmup * scale
    steps, warmup_steps = recipe.epochs * STEPS_PER_EPOCH, recipe.warmup_epochs * STEPS_PER_EPOCH
    if step < warmup_steps:
        return warmup + (peak - warmup) * step / warmup_steps
    return minimum + (peak - minimum) * (1 + cos(pi * step / steps)) / 2


def rates(optim: OptimConfig, recipe: Recipe) -> list[list[float]]:
    """Rates of two groups, with scales 1 and 0.1, at every step."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(groups, lr=scaled_rates(optim, recipe.batch).peak)
    steps = recipe.epochs * STEPS_PER_EPOCH
    schedule = build_scheduler(optimizer, optim, steps, recipe.warmup_epochs * STEPS_PER_EPOCH, recipe.batch)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append([group["lr"] for group in optimizer.param_groups])
    return found


def require_curve(optim: OptimConfig, recipe: Recipe) -> None:
    for step, (full, tenth) in enumerate(rates(optim, recipe)):
        assert full == pytest.approx(expected_rate(recipe, step), rel=1e-9, abs=0), step
        assert tenth == pytest.approx(full / 10, rel=1e-9, abs=0), step


@pytest.mark.parametrize("recipe", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_published_recipe_has_its_curve(recipe: Recipe) -> None:
    optim = OptimConfig(base_lr=recipe.base, warmup_lr=recipe.warmup, min_lr=recipe.minimum)
    require_curve(optim, recipe)


def test_every_shipped_recipe_of_the_papers_is_known_here() -> None:
    found = {str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*/tiny_vit_*.yaml")}
    assert found == set(SHIPPED)


@pytest.mark.parametrize(("name", "expected"), SHIPPED.items(), ids=SHIPPED.keys())
def test_a_shipped_recipe_has_the_published_numbers(name: str, expected: tuple[Recipe, float]) -> None:
    recipe, drop_path_rate = expected
    config = load(name)
    schedule, optim = config.schedule, config.optim
    found = Recipe(
        schedule.epochs,
        round(schedule.warmup_epochs),
        schedule.global_batch_size,
        optim.base_lr,
        optim.min_lr,
        optim.warmup_lr,
        optim.weight_decay,
        optim.layer_decay,
        config.train.freeze_bn_stats,
    )
    assert found == recipe
    assert (optim.lr_batch, optim.betas, optim.eps, optim.clip_grad) == (512, (0.9, 0.999), 1e-8, 5.0)
    assert config.student.drop_path_rate == drop_path_rate
    require_curve(optim, recipe)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "demo").glob("*.yaml") if path.stem != "dump"))
def test_a_demo_recipe_has_the_curve_of_its_own_numbers(name: str) -> None:
    config = load(f"demo/{name}")
    optim, schedule = config.optim, config.schedule
    recipe = Recipe(
        schedule.epochs * 10,  # in tenths of epochs, for fractions of an epoch of warm-up
        round(schedule.warmup_epochs * 10),
        schedule.global_batch_size,
        optim.base_lr,
        optim.min_lr,
        optim.warmup_lr,
        optim.weight_decay,
        optim.layer_decay,
        config.train.freeze_bn_stats,
    )
    assert recipe.minimum < recipe.base
    require_curve(optim, recipe)


def test_rates_grow_with_the_global_batch() -> None:
    optim = OptimConfig(base_lr=2e-3, warmup_lr=1e-6, min_lr=1e-5, lr_batch=256)
    found = scaled_rates(optim, 1024)
    assert (found.peak, found.warmup, found.minimum) == pytest.approx((8e-3, 4e-6, 4e-5))


def test_without_warm_up_the_first_rate_is_the_peak() -> None:
    recipe = Recipe(3, 0, 512, 1e-3, 1e-5, 0.0, 0.0, 1.0, False)
    optim = OptimConfig(base_lr=1e-3, warmup_lr=0, min_lr=1e-5)
    assert rates(optim, recipe)[0] == pytest.approx([1e-3, 1e-4])
    require_curve(optim, recipe)
