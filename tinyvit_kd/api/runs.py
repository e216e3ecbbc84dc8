"""Recipes, the students that runs wrote, and the batches that runs train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyvit_kd.config import load
from tinyvit_kd.config.recipes import STAGE_CONFIGS, DumpConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.errors import ConfigError

if TYPE_CHECKING:
    # Importing torch and timm takes seconds, so only the functions that need them do it.
    import torch
    from torch import nn

    from tinyvit_kd.models.modelfile import ModelCard
    from tinyvit_kd.models.normalizer import Normalizer
    from tinyvit_kd.runs.training_batches import TrainingBatches

Recipe = DumpConfig | PretrainConfig | FinetuneConfig | EvaluateConfig


class Student(NamedTuple):
    """A trained network; ``student.network(student.normalize(views))`` gives logits [B, C]."""

    network: nn.Module  # in evaluation mode
    card: ModelCard  # image size, classes, number of training steps, …
    normalize: Normalizer  # uint8 views [B, 3, S, S] to the network's input


def load_recipe(path: str | Path, *overrides: str) -> Recipe:
    """Read a recipe of any stage.

    Args:
        path: a YAML file; each run folder has its own, ``recipe.yaml``.
        overrides: as ``--set`` takes them: ``"schedule.epochs=3"``, ``"store.views=4"``.

    Raises:
        ConfigError: the file does not name its stage, or has mistakes; it names all of them.
    """
    path = Path(path)
    stage = load.read_yaml(path).get("stage")
    if not isinstance(stage, str) or stage not in STAGE_CONFIGS:
        raise ConfigError(
            "the recipe does not name a stage",
            where=f"stage, {path}",
            found=str(stage),
            expected=f"one of {', '.join(STAGE_CONFIGS)}",
        )
    recipe = load.load_recipe(STAGE_CONFIGS[stage], path, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def open_student(path: str | Path, device: str | torch.device = "cpu") -> Student:
    """Open a network that a stage trained, ready for inference.

    Args:
        path: a run folder, or a ``model.safetensors`` that a stage wrote.
        device: where the network and its inputs are.

    Raises:
        CheckpointError: the file is missing, damaged, or does not say which network it holds.
    """
    import torch

    from tinyvit_kd.models.normalizer import Normalizer
    from tinyvit_kd.models.student import open_model

    network, card = open_model(path)
    device = torch.device(device)
    return Student(network.eval().to(device), card, Normalizer(card.mean, card.std, device))


def open_batches(recipe: str | Path | Recipe) -> TrainingBatches:
    """Open the batches that ``pretrain`` or ``finetune`` would train on, in their order. Nothing is trained or written.

    ``batches[step]`` is the batch of one step, ``batches.rows(step)`` says which samples are in it, and
    ``batches.iterate(start, stop, workers)`` goes through many.

    Args:
        recipe: a YAML file, or what ``load_recipe`` returns.

    Raises:
        ConfigError: the recipe is of another stage, or has mistakes.
        StoreError, ShardError: as the stage would.
    """
    config = load_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    if not isinstance(config, PretrainConfig | FinetuneConfig):
        raise ConfigError(
            "only recipes that train a student have training batches",
            where="stage",
            found=config.stage,
            expected="pretrain or finetune",
        )
    from tinyvit_kd.runs.training_batches import open_training_batches

    return open_training_batches(config)
