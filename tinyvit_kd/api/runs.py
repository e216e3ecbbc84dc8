"""Recipes, the students that runs have written, and the batches that runs train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tinyvit_kd.config import load
from tinyvit_kd.config.recipes import (
    STAGE_CONFIGS,
    ContractConfig,
    DumpConfig,
    EvaluateConfig,
    FinetuneConfig,
    PretrainConfig,
)
from tinyvit_kd.errors import ConfigError

if TYPE_CHECKING:
    # Importing torch and timm takes seconds, so only the functions that need them do it.
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

    from tinyvit_kd.models.modelfile import ModelCard
    from tinyvit_kd.models.normalizer import Normalizer
    from tinyvit_kd.runs.training_batches import TrainingBatches

Recipe = DumpConfig | PretrainConfig | FinetuneConfig | EvaluateConfig | ContractConfig


class Student(NamedTuple):
    """A trained network; ``student.predict(["cat.jpg"])`` gives probabilities [B, C].

    ``student.network(student.normalize(views))`` gives logits [B, C] of views that you have.
    """

    network: nn.Module  # in evaluation mode
    card: ModelCard  # image size, classes, number of training steps, …
    normalize: Normalizer  # uint8 views [B, 3, S, S] to the network's input

    def view(self, image: bytes | str | Path) -> npt.NDArray[np.uint8]:
        """What the network is shown of an image: uint8 [3, S, S], resized and cropped as its file says.

        Args:
            image: an image file, or its bytes.

        Raises:
            ConfigError: the file cannot be read.
            BadImageError: the image cannot be decoded.
        """
        from tinyvit_kd.batches.image_files import read_view
        from tinyvit_kd.views.render import render_eval

        views = self.card.eval_views
        return render_eval(image, views) if isinstance(image, bytes) else read_view(image, views)

    def predict(self, images: Sequence[bytes | str | Path]) -> torch.Tensor:
        """Probabilities of the classes, float32 [B, C] on the network's device.

        A network with a distillation head answers with the mean of both heads' softmax, as ``evaluate`` scores it.

        Args:
            images: at least one image file, or its bytes.

        Raises:
            ConfigError: a file cannot be read.
            BadImageError: an image cannot be decoded.
        """
        import torch

        from tinyvit_kd.models.predictor import predict_views

        views = torch.stack([torch.from_numpy(self.view(image)) for image in images])
        return predict_views(self.network, self.normalize, views)


def load_recipe(path: str | Path, *overrides: str) -> Recipe:
    """Read a recipe of any stage.

    Args:
        path: a YAML file, for example the ``recipe.yaml`` of a run folder.
        overrides: fields to set, as for ``--set``: ``"schedule.epochs=3"``, ``"store.views=4"``.

    Raises:
        ConfigError: the file does not name its stage, or has mistakes, all of which the error lists.
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


def open_student(path: str | Path, device: str | torch.device = "cpu", *, call: str | None = None) -> Student:
    """Open a network that says what it is, ready for inference.

    Args:
        path: path or URL of a run folder, a folder that timm or export wrote, or a ``model.safetensors`` that a stage
            has written.
        device: for the network and its inputs.
        call: of a student that a function of your own makes, its dotted name (``student.call``). What a file names is
            imported only if you name it, too.

    Raises:
        CheckpointError: the file is missing, damaged, or does not say which network it holds.
    """
    import torch

    from tinyvit_kd.models.normalizer import Normalizer
    from tinyvit_kd.models.student import open_model

    network, card = open_model(path, call)
    device = torch.device(device)
    return Student(network.eval().to(device), card, Normalizer(card.mean, card.std, device))


def open_batches(recipe: str | Path | Recipe) -> TrainingBatches:
    """Open the batches that ``pretrain`` or ``finetune`` would train on, in their order. Nothing is trained or written.

    ``batches[step]`` is the batch of one step, ``batches.rows(step)`` says which samples are in it, and
    ``batches.iterate(start, stop, workers)`` yields the batches of many steps.

    Args:
        recipe: a YAML file, or what ``load_recipe`` returned.

    Raises:
        ConfigError: the recipe is for another stage, or has mistakes.
        StoreError, ShardError: the stage itself would raise it.
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
