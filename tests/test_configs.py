"""Every shipped recipe loads, says what it is for, and holds the published numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm

from tests.conftest import REPOSITORY
from tinyvit_kd.config.load import load_recipe, read_yaml
from tinyvit_kd.config.stages import STAGE_CONFIGS, DumpConfig, FinetuneConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.views.spec import parse_auto_augment

CONFIGS = REPOSITORY / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))
OPENING = ("Paper:", "Command:", "Hardware:", "Hours:", "Result:")


def load(path: Path) -> Any:
    return load_recipe(STAGE_CONFIGS[read_yaml(path)["stage"]], path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_recipe_loads_and_opens_with_what_it_is_for(path: Path) -> None:
    recipe = load(path)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert [any(f"# {name}" in line for line in head) for name in OPENING] == [True] * len(OPENING)
    if isinstance(recipe, DumpConfig | FinetuneConfig) and recipe.views.auto_augment is not None:
        parse_auto_augment(recipe.views.auto_augment)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_the_command_in_a_recipe_names_the_recipe_and_its_stage(path: Path) -> None:
    command = re.search(r"# Command:\s+(.*)", path.read_text())
    assert command is not None
    if "demo" not in path.parts:
        assert str(path.relative_to(REPOSITORY)) in command[1]
        assert f" {read_yaml(path)['stage']} " in command[1]


def test_all_recipes_that_are_promised_exist() -> None:
    names = {str(path.relative_to(CONFIGS).with_suffix("")) for path in RECIPES}
    expected = {"dump/clip_vit_large_patch14_22k", "dump/convnext_xlarge_22k"}
    expected |= {"finetune/tiny_vit_21m_384", "finetune/tiny_vit_21m_512"}
    for size in ("5m", "11m", "21m"):
        expected |= {
            f"pretrain/tiny_vit_{size}_22k",
            f"finetune/tiny_vit_{size}_22kto1k",
            f"scratch/tiny_vit_{size}_1k",
        }
    expected |= {f"demo/{name}" for name in ("teacher", "dump", "pretrain", "finetune", "scratch")}
    assert expected <= names


# RECIPES: epochs, warm-up, batch, base rate, minimum, warm-up rate, weight decay, layer decay, frozen BN, mixup, cutmix
# (TinyViT/configs and config.py of microsoft/Cream; arXiv 2207.10666, section 4.1 and appendix).
PUBLISHED = {
    "pretrain/*_22k": (90, 5, 4096, 2.5e-4, 5e-6, 5e-7, 0.01, 1.0, False, None, None),
    "finetune/*_22kto1k": (30, 5, 1024, 2.5e-4, 1e-5, 5e-7, 1e-8, 0.8, True, 0.0, 0.0),
    "scratch/*_1k": (300, 20, 1024, 5e-4, 5e-6, 5e-7, 0.05, 1.0, False, 0.8, 1.0),
    "finetune/*_384": (30, 5, 1024, 2e-5, 2e-7, 2e-8, 1e-8, 1.0, True, 0.0, 0.0),
    "finetune/*_512": (30, 5, 1024, 2e-5, 2e-7, 2e-8, 1e-8, 1.0, True, 0.0, 0.0),
}
DROP_PATH = {
    "pretrain": {"5m": 0.0, "11m": 0.0, "21m": 0.1},
    "finetune": {"5m": 0.0, "11m": 0.0, "21m": 0.1},
    "scratch": {"5m": 0.0, "11m": 0.1, "21m": 0.2},
}
CASES = [(path, numbers) for pattern, numbers in PUBLISHED.items() for path in sorted(CONFIGS.glob(f"{pattern}.yaml"))]


@pytest.mark.parametrize(("path", "numbers"), CASES, ids=lambda case: case.stem if isinstance(case, Path) else "")
def test_a_recipe_holds_the_published_numbers(path: Path, numbers: tuple[Any, ...]) -> None:
    recipe: TrainingConfig = load(path)
    optim, schedule = recipe.optim, recipe.schedule
    views = recipe.views if isinstance(recipe, FinetuneConfig) else None
    found: tuple[Any, ...] = (
        schedule.epochs,
        schedule.warmup_epochs,
        schedule.global_batch_size,
        optim.base_lr,
        optim.min_lr,
    )
    found += (optim.warmup_lr, optim.weight_decay, optim.layer_decay, recipe.train.freeze_bn_stats)
    found += (views.mixup, views.cutmix) if views else (None, None)
    assert found == numbers
    assert (optim.lr_batch, optim.betas, optim.eps, optim.clip_grad) == (512, (0.9, 0.999), 1e-8, 5.0)
    size = path.stem.split("_")[2]
    assert recipe.student.drop_path_rate == DROP_PATH[path.parent.name][size]
    if isinstance(recipe, PretrainConfig):
        assert recipe.loss.temperature == 1
    elif isinstance(recipe, FinetuneConfig):
        assert recipe.loss.label_smoothing == 0.1
        assert recipe.views.auto_augment == "rand-m9-mstd0.5-inc1"
        assert (recipe.views.erase_prob, recipe.views.erase_mode, recipe.views.scale) == (0.25, "pixel", (0.08, 1.0))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_networks_that_recipes_name_are_known_to_timm(path: Path) -> None:
    recipe = load(path)
    name = getattr(getattr(recipe, "teacher", getattr(recipe, "student", None)), "name", None)
    assert name is None or timm.is_model(name)


def test_22k_dumps_keep_100_of_21841_classes_without_labels() -> None:
    recipe: DumpConfig = load(CONFIGS / "dump/clip_vit_large_patch14_22k.yaml")
    assert (recipe.store.topk, recipe.store.views, recipe.teacher.num_classes) == (100, 90, 21841)


@pytest.mark.parametrize(("size", "windows"), [(384, (12, 12, 24, 12)), (512, (16, 16, 32, 16))])
def test_higher_resolutions_use_the_published_windows_and_the_whole_image(size: int, windows: tuple[int, ...]) -> None:
    recipe: FinetuneConfig = load(CONFIGS / f"finetune/tiny_vit_21m_{size}.yaml")
    assert recipe.views.size == size
    assert recipe.eval is not None
    assert (recipe.eval.views.size, recipe.eval.views.mode) == (size, "squash")
    network = timm.create_model(recipe.student.name or "")
    found = tuple(stage.blocks[0].window_size for stage in network.stages[1:])
    assert found == windows[1:]
