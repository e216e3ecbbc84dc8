"""``evaluate``: top-1 and top-5 on labelled shards, every sample counted once over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit_kd.config.stages import EvalConfig, EvaluateConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.labels import load_class_list
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head import select_columns
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.student import open_model
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.device import Normalizer, autocast, place_network
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.signals import heed
from tinyvit_kd.stages.batches import EvalBatches
from tinyvit_kd.stages.inputs import card_classes, label_classes, label_map, open_shards, require_labels
from tinyvit_kd.training.metrics import topk_correct
from tinyvit_kd.views.selfcheck import self_check


@dataclass(frozen=True)
class Scorer:
    """Labelled shards, opened once, on which networks are scored."""

    job: Job
    config: EvalConfig
    runtime: RuntimeConfig
    shards: ShardSet
    columns: npt.NDArray[np.int64] | None  # from label to the head's class; null where they are the same
    normalize: Normalizer

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Top-1 and top-5 accuracy in percent, and how many samples were scored and left out."""
        device = self.job.device
        network.eval()
        sums = torch.zeros(4, dtype=torch.float64, device=device)  # correct@1, correct@5, scored, left out
        make = EvalBatches(self.shards.reader(), self.config.views, self.config.batch_size)
        with loading(make, self._tasks(), self.runtime, device) as batches, torch.inference_mode():
            for batch in batches:
                heed()
                sums += self._count(network, batch)
        top1, top5, scored, left_out = self.job.sum(sums).tolist()
        share = 100 / max(scored, 1)
        return {"top1": top1 * share, "top5": top5 * share, "samples": scored, "holes": left_out}

    def _tasks(self) -> Iterator[tuple[int, int, int]]:
        """Runs of samples (shard, start, stop); the ranks take them in turn."""
        size, number = self.config.batch_size, 0
        for shard, length in enumerate(self.shards.lengths.tolist()):
            for start in range(0, length, size):
                if number % self.job.world_size == self.job.rank:
                    yield shard, start, min(start + size, length)
                number += 1

    def _count(self, network: nn.Module, batch: Batch) -> torch.Tensor:
        assert batch.labels is not None
        with autocast(self.job.device, self.runtime.precision):
            logits = network(self.normalize(batch.views)).float()
        if self.columns is not None:
            logits = select_columns(logits, self.columns)
        top1, top5 = topk_correct(logits, batch.labels, batch.weights, (1, 5))
        scored = batch.weights.sum()
        return torch.stack([top1, top5, scored, len(batch.weights) - scored]).double()


def build_scorer(
    job: Job, config: EvalConfig, runtime: RuntimeConfig, normalize: Normalizer, card: ModelCard
) -> Scorer:
    """Open the labelled shards and match their classes and views with the network's.

    Args:
        card: what the network is: its classes, where known, and the side of its input.

    Raises:
        ConfigError: the labels' classes are not the network's and cannot be found among them, the shards are not
            labelled, or the views are not of the network's size.
    """
    if config.views.size != card.image_size:
        raise ConfigError(
            "the views of the evaluation are not of the network's size",
            where="eval.views.size",
            found=f"{config.views.size} pixels",
            expected=f"{card.image_size}",
        )
    shards = open_shards(config.shards, job, runtime)
    labels = label_classes(config.shards, shards)
    require_labels(shards, len(labels.ids) if labels else card.num_classes)
    columns = label_map(labels, card_classes(card), card.num_classes)
    return Scorer(job, config, runtime, shards, columns, normalize)


def evaluate(config: EvaluateConfig, job: Job) -> dict[str, float]:
    """Score one model file.

    Returns:
        top1 and top5 in percent, samples scored, holes left out.
    """
    self_check()
    network, card = open_model(config.model)
    if config.class_list is not None:
        classes = load_class_list(config.class_list)
        card = replace(card, class_name=classes.name, class_ids=classes.ids)
    place_network(network, job.device, config.runtime.channels_last)
    if config.runtime.compile:
        network.compile()
    normalize = Normalizer(card.mean, card.std, job.device, config.runtime.channels_last)
    scorer = build_scorer(job, config, config.runtime, normalize, card)
    scores = scorer(network)
    say(
        job,
        f"{config.model}: top-1 {scores['top1']:.2f} %, top-5 {scores['top5']:.2f} % "
        f"of {scores['samples']:,.0f} samples, {scores['holes']:.0f} holes left out",
    )
    return scores
