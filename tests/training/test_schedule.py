"""Learning rates of every published and every shipped recipe, step by step."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch

from tests.published import (
    CONFIGS,
    DEIT_224,
    DISTILLED_22K,
    FINETUNED_1K,
    HIGHER_RESOLUTION,
    LR_BATCH,
    SCRATCH_1K,
    TINY_VIT,
    Published,
    TinyViT,
    load,
)
from tinyvit_kd.config.optim import OptimConfig
from tinyvit_kd.training.learning_rate import build_scheduler, scaled_rates

STEPS_PER_EPOCH = 7
PUBLISHED = {
    "22k distillation": DISTILLED_22K,
    "22k to 1k": FINETUNED_1K,
    "1k from scratch": SCRATCH_1K,
    "384 and 512 pixels": HIGHER_RESOLUTION,
    "DeiT": DEIT_224.numbers,
}


def expected_rate(recipe: Published, step: int) -> float:
    """Linear warm-up, which replaces the beginning of the cosine over the whole training."""
    scale = recipe.batch / LR_BATCH
    peak, minimum, warmup = recipe.base_lr * scale, recipe.min_lr * scale, recipe.warmup_lr * scale
    steps, warmup_steps = recipe.epochs * STEPS_PER_EPOCH, recipe.warmup_epochs * STEPS_PER_EPOCH
    if step < warmup_steps:
        return warmup + (peak - warmup) * step / warmup_steps
    return minimum + (peak - minimum) * (1 + cos(pi * step / steps)) / 2


def rates(optim: OptimConfig, recipe: Published) -> list[list[float]]:
    """Rates of two groups, with scales 1 and 0.1, at every step."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": scale} for scale in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(groups, lr=scaled_rates(optim, recipe.batch).peak)
    steps = recipe.epochs * STEPS_PER_EPOCH
    warmup_steps = round(recipe.warmup_epochs * STEPS_PER_EPOCH)
    schedule = build_scheduler(optimizer, optim, steps, warmup_steps, recipe.batch)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append([group["lr"] for group in optimizer.param_groups])
    return found


def require_curve(optim: OptimConfig, recipe: Published) -> None:
    for step, (full, tenth) in enumerate(rates(optim, recipe)):
        assert full == pytest.approx(expected_rate(recipe, step), rel=1e-9, abs=0), step
        assert tenth == pytest.approx(full / 10, rel=1e-9, abs=0), step


@pytest.mark.parametrize("recipe", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_published_recipe_has_its_curve(recipe: Published) -> None:
    optim = OptimConfig(base_lr=recipe.base_lr, warmup_lr=recipe.warmup_lr, min_lr=recipe.min_lr)
    require_curve(optim, recipe)


@pytest.mark.parametrize(("name", "published"), TINY_VIT.items(), ids=TINY_VIT)
def test_a_shipped_recipe_has_the_published_curve(name: str, published: TinyViT) -> None:
    require_curve(load(name).optim, published.numbers)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "demo").glob("*.yaml") if path.stem != "dump"))
def test_a_demo_recipe_has_the_curve_of_its_own_numbers(name: str) -> None:
    recipe = load(f"demo/{name}")
    own = Published.of(recipe)
    # In tenths of epochs, for fractions of an epoch of warm-up.
    own = own._replace(epochs=own.epochs * 10, warmup_epochs=round(own.warmup_epochs * 10))
    assert own.min_lr < own.base_lr
    require_curve(recipe.optim, own)


def test_rates_grow_with_the_global_batch() -> None:
    optim = OptimConfig(base_lr=2e-3, warmup_lr=1e-6, min_lr=1e-5, lr_batch=256)
    found = scaled_rates(optim, 1024)
    assert (found.peak, found.warmup, found.minimum) == pytest.approx((8e-3, 4e-6, 4e-5))


def test_without_warm_up_the_first_rate_is_the_peak() -> None:
    recipe = Published(3, 0, 512, base_lr=1e-3, min_lr=1e-5, warmup_lr=0, weight_decay=0)
    optim = OptimConfig(base_lr=1e-3, warmup_lr=0, min_lr=1e-5)
    assert rates(optim, recipe)[0] == pytest.approx([1e-3, 1e-4])
    require_curve(optim, recipe)
