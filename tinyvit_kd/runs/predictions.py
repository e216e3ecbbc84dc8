"""A network from any file that it may be in, and what it says of image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tinyvit_kd.batches.image_files import FileBatches
from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.exporting.timm_files import label_descriptions
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.predictor import Predictor, network_predictor, onnx_predictor
from tinyvit_kd.runs.class_lists import card_classes, named_classes
from tinyvit_kd.runs.class_names import class_names, names_of
from tinyvit_kd.runs.opened_network import known_classes, open_with_classes
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.signals import raise_if_stopped

_OF_ONNX = frozenset({"model", "class_list"})  # what a file that is whole by itself leaves to say


@dataclass(frozen=True)
class Classifier:
    """A network that is ready to be asked.

    Attributes:
        predictor: views to probabilities.
        card: what it is.
        class_names: a readable name of each class; "class 7" where they are not known.
    """

    predictor: Predictor
    card: ModelCard
    class_names: Sequence[str]


@dataclass(frozen=True)
class Guess:
    """One class of an answer; ``class_id`` is None where the classes are not known."""

    number: int
    class_id: str | None
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image: its likeliest classes, or why there is no answer."""

    image: Path
    guesses: tuple[Guess, ...] = ()
    problem: str = ""


def open_classifier(source: ModelSource, device: torch.device) -> Classifier:
    """A network from a run folder, a folder of timm's, a file of weights, an ONNX file of ours, or timm's hub.

    Raises:
        ConfigError, CheckpointError: it cannot be opened, or its classes are not those of ``source.class_list``.
    """
    suffix = "" if source.model is None else Path(source.model).suffix
    if source.model is not None and suffix == ".onnx":
        return _from_onnx(source, model_path(source.model), device)
    if suffix == ".pt2":
        raise ConfigError(
            "a .pt2 file is a program, which could be anybody's and is not run here",
            where=str(source.model),
            fix="name the run folder or an ONNX file; torch.export.load opens it, if you know who wrote it",
        )
    opened = open_with_classes(source)
    classes = known_classes(source, opened.card)
    names = names_of(classes, opened.card.num_classes)
    if classes is not None and source.class_list is None and source.model is not None:
        described = label_descriptions(model_path(source.model))
        names = [described.get(each, name) for each, name in zip(classes.ids, names, strict=True)]
    return Classifier(network_predictor(opened.network, opened.card, device), opened.card, names)


def _from_onnx(source: ModelSource, file: Path, device: torch.device) -> Classifier:
    given = {name for name in ModelSource.model_fields if getattr(source, name) not in (None, False, {})}
    if idle := sorted(given - _OF_ONNX):
        raise ConfigError(
            "an ONNX file says itself what its network is",
            where=str(file),
            found=", ".join(f"--{name.replace('_', '-')}" for name in idle),
            fix="leave it out",
        )
    predictor, description = onnx_predictor(file, device)
    card, names = description.card, description.class_names
    if source.class_list is not None:
        classes = named_classes(source.class_list, card.num_classes, str(file), "--class-list")
        card = replace(card, class_name=classes.name, class_ids=classes.ids)
        return Classifier(predictor, card, class_names(classes.ids, classes.names))
    return Classifier(predictor, card, names or names_of(card_classes(card), card.num_classes))


def predictions(
    classifier: Classifier, images: Sequence[Path], top: int, batch_size: int, workers: int, device: torch.device
) -> Iterator[Prediction]:
    """What a network says of each image, in their order.

    Args:
        top: classes per image, at most.
        workers: loading processes; 0: images are read in this one.

    Raises:
        CheckpointError: probabilities are NaN.
    """
    runtime = RuntimeConfig(workers=workers)
    size = min(batch_size, len(images))
    tasks = [images[start : start + size] for start in range(0, len(images), size)]
    maker = FileBatches(classifier.card.eval_views, size)
    with saying("predicting", len(images), "image") as beat, loading(maker, tasks, runtime, device) as batches:
        for task, batch in zip(tasks, batches, strict=True):
            raise_if_stopped()
            probabilities = classifier.predictor(batch.views)
            if probabilities.shape[1] != classifier.card.num_classes:
                raise CheckpointError(
                    "the network has another number of classes than its file says",
                    found=f"{probabilities.shape[1]} probabilities",
                    expected=f"{classifier.card.num_classes}",
                    fix="export it again",
                )
            if bool(probabilities.isnan().any()):
                raise CheckpointError(
                    "the network's probabilities are NaN",
                    where=f"a batch that begins with {task[0]}",
                    fix="score it with evaluate; its training has probably diverged",
                )
            best = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
            rows = zip(task, batch.problems, best.indices.tolist(), best.values.tolist(), strict=True)
            for image, problem, numbers, values in rows:
                beat.advance()
                yield _prediction(classifier, image, problem, numbers, values)


def _prediction(
    classifier: Classifier, image: Path, problem: str, numbers: Sequence[int], values: Sequence[float]
) -> Prediction:
    if problem:
        return Prediction(image, problem=problem)
    ids = classifier.card.class_ids
    return Prediction(
        image,
        tuple(
            Guess(number, None if ids is None else ids[number], classifier.class_names[number], value)
            for number, value in zip(numbers, values, strict=True)
        ),
    )
