"""Brief trainings of a student from each teacher on the chosen samples: their shards, recipes, and scores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tinyvit_kd.analysis.auditions.answers import Answers, Mean
from tinyvit_kd.analysis.auditions.first_views import ChosenSamples, FirstViews, Int64
from tinyvit_kd.config.data import MaybeLabelledShardsConfig
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.models import ModelSource, TeacherConfig
from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig
from tinyvit_kd.data.building.shard_writer import Sample, ShardTask, write_shard
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.predictor import network_predictor
from tinyvit_kd.runs.opened_network import open_with_classes
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.storage.open import open_storage

_SHARDS, _TAR, _STORE, _RUN = "shards", "chosen-000000.tar", "store", "run"


@dataclass(frozen=True)
class StudentScore:
    """How a student does in the views of the samples that it was not trained on.

    Attributes:
        steps: of its training.
        right: percent of the labelled views whose label is its best class; None without labels.
        cross_entropy: of the labels, nats; None without labels.
        same: percent of the views in which its best class is that of its own teacher.
    """

    steps: int
    right: Mean | None
    cross_entropy: Mean | None
    same: Mean | None


@dataclass(frozen=True)
class BriefTraining:
    """A dump and a training on some samples.

    Attributes:
        steps: of the training.
    """

    dump: DumpConfig
    pretrain: PretrainConfig
    steps: int


@contextmanager
def work_folder(output: Path | None) -> Iterator[Path]:
    """The folder for shards, stores and runs; a temporary one where none is given."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        yield output
        return
    with TemporaryDirectory(prefix="tinyvit-kd-") as folder:
        yield Path(folder)


def write_chosen(shards: ShardSet, chosen: ChosenSamples, folder: Path) -> int:
    """Pack the samples that are not held out into one shard, with their labels; returns how many there are."""
    reader = shards.reader()
    samples: list[Sample] = []
    (folder / _SHARDS).mkdir(exist_ok=True)
    spans = [span for span, held_out in zip(chosen.spans, chosen.held_out.tolist(), strict=True) if not held_out]
    with TemporaryDirectory(prefix="tinyvit-kd-") as images, saying("packing the chosen samples", len(spans), "sample"):
        for span in spans:
            labels = shards.index(span.group.shard).labels
            for index in span.indexes.tolist():
                content = reader.read(span.group.shard, index)
                path = Path(images) / f"{len(samples)}"
                path.write_bytes(content)
                image = Image(path, f"{len(samples)}.jpg", 0, len(content))
                samples.append(Sample(len(samples), int(labels[index]), "", image))
        write_shard(ShardTask(open_storage(str(folder / _SHARDS)), _TAR, samples))
    if shards.class_list is not None:
        with atomic_path(folder / _SHARDS / CLASS_LIST_FILE) as path:
            path.write_text("".join(f"{each}\n" for each in shards.class_list.ids), encoding="utf-8")
    return len(samples)


def brief_training(
    recipe: DumpConfig,
    student: PretrainConfig,
    teacher: TeacherConfig,
    name: str,
    samples: int,
    steps: int,
    folder: Path,
) -> BriefTraining:
    """The recipes of a dump with one teacher and a training from it, on the samples that ``write_chosen`` packed.

    The student's recipe is kept as far as so few samples allow: batches may be smaller, in one lane; there are whole
    epochs, as many as the steps take, with the same share of warm-up; images of the views' size; and neither
    evaluations nor an average of the weights, which would still be near the first ones.

    Args:
        name: of the teacher.
        samples: that were packed.
        steps: at least.

    Raises:
        ConfigError: there are too few samples for a batch.
    """
    schedule = student.schedule
    together = min(schedule.views_per_sample, recipe.store.views)
    unit = 2 * together if recipe.views.mixes else together
    batch = min(schedule.global_batch_size, samples * together) // unit * unit
    if not batch:
        raise ConfigError(
            "there are too few samples to train a student on",
            where="--samples",
            found=f"{samples} that are not held out",
            expected=f"at least {unit // together}",
        )
    per_epoch = samples * together // batch
    epochs = math.ceil(steps / per_epoch)
    shards = {"path": str(folder / _SHARDS / _TAR), "max_lost_fraction": 1.0}
    store = folder / name / _STORE
    store.parent.mkdir(exist_ok=True)  # for the dump's log
    asked = {"path": str(store), "views": min(recipe.store.views, epochs * together)}
    dump = recipe.model_copy(
        update={
            "shards": MaybeLabelledShardsConfig.model_validate(shards),
            "teacher": teacher,
            "store": recipe.store.model_copy(update=asked),
            "views_from": None,  # whose views and seed the recipe has by now
        }
    )
    tree: dict[str, Any] = student.model_dump(mode="json", exclude_unset=True)
    kept = {"verify_rate", "view_schedule", "block_cache_mib"}
    tree["store"] = {key: value for key, value in tree["store"].items() if key in kept} | {"path": str(store)}
    if recipe.views.transform is not None:
        tree["store"]["trust_transform"] = True  # the recipe of the audition names it
    tree["shards"] = shards | {
        "max_lost_fraction": 1.0,
        "max_unlabelled_fraction": student.shards.max_unlabelled_fraction,
    }
    tree["student"] = {key: value for key, value in tree["student"].items() if key != "image_size"}
    tree["output"] = str(folder / name / _RUN)
    micro = schedule.micro_batch_size
    tree["schedule"] |= {
        "epochs": epochs,
        "warmup_epochs": schedule.warmup_epochs / schedule.epochs * epochs,
        "views_per_sample": together,
        "global_batch_size": batch,
        "micro_batch_size": micro if micro is not None and batch % micro == 0 else None,
        "lanes": 1,
    }
    tree["train"] = tree.get("train", {}) | {"ema_decay": None, "keep_checkpoints": 1}
    for section in ("eval", "logging"):
        tree.pop(section, None)
    return BriefTraining(dump, validate(PretrainConfig, tree, "--student"), epochs * per_epoch)


def score_student(training: BriefTraining, views: FirstViews, answers: Answers, labels: Int64) -> StudentScore:
    """Score a student on the first views of the samples that are held out.

    Args:
        answers: of its teacher, to all views.
        labels: of all views, as classes of its teacher.

    Raises:
        CheckpointError: its file cannot be read.
    """
    opened = open_with_classes(ModelSource(model=training.pretrain.output))
    predict = network_predictor(opened.network, opened.card, views.device)
    with views.batches() as batches:
        probs = [predict(batch.views)[: len(batch.status)].cpu() for batch in batches]
    return _score(torch.cat(probs), views, answers, labels, training.steps)


def _score(probs: torch.Tensor, views: FirstViews, answers: Answers, labels: Int64, steps: int) -> StudentScore:
    scored = answers.valid & views.chosen.held_out_rows
    labelled = scored & (labels >= 0)
    best = probs.argmax(dim=1).numpy()
    of_labels = probs.double()[torch.from_numpy(np.flatnonzero(labelled)), torch.from_numpy(labels[labelled])]
    return StudentScore(
        steps=steps,
        right=Mean.of(100.0 * (best == labels)[labelled]),
        cross_entropy=Mean.of(-of_labels.clamp(min=torch.finfo(torch.float32).tiny).log().numpy()),
        same=Mean.of(100.0 * (best == answers.best)[scored]),
    )
