"""Accuracy of a network on labelled shards, every sample counted once over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit_kd.batches.evaluation_batches import EvalBatches
from tinyvit_kd.config.recipes import EvalConfig, EvaluateConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head import distilled_heads, forward_heads, select_columns
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runs.class_lists import assumed_classes, card_classes, label_map
from tinyvit_kd.runs.label_checks import require_labels
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runtime.device import autocast
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.evaluation_metrics import METRICS, ScoredBatch


@dataclass(frozen=True)
class Scorer:
    """Labelled shards, opened once, on which networks are scored."""

    job: Job
    config: EvalConfig
    runtime: RuntimeConfig
    shards: ShardSet
    columns: npt.NDArray[np.int64] | None  # from label to the head's class; null where they are the same
    num_classes: int  # C, classes of the labels
    normalize: Callable[[torch.Tensor], torch.Tensor]
    compares_names: bool  # False: class i of the labels is taken for class i of the network

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """The results of all ``training.evaluation_metrics.METRICS``.

        Returns:
            top1, top5, mean_per_class (the mean over classes of top-1 inside each), all in percent; samples, left_out,
            and what was left out: unlabelled (no label) and undecodable (a label, but no image). A network with a
            distillation head is scored by the mean of both heads' softmax (DeiT, arXiv 2012.12877, section 4), and has
            top1_head and top1_head_dist besides, each head's own.
        """
        device = self.job.device
        network.eval()
        heads = tuple(distilled_heads(network))
        metrics = [metric(self.num_classes, heads, device) for metric in METRICS]
        make = EvalBatches(self.shards.reader(), self.config.views, self.config.batch_size)
        with loading(make, self._tasks(), self.runtime, device) as batches, torch.inference_mode():
            for batch in batches:
                raise_if_stopped()
                scored = self._score(network, batch)
                for metric in metrics:
                    metric.update(scored)
        results: dict[str, float] = {}
        for metric in metrics:
            results |= metric.results(self.job.sum(metric.sums))
        return results

    def _tasks(self) -> Iterator[tuple[int, int, int]]:
        """Runs of samples (shard, start, stop); the ranks take them in turn."""
        size, number = self.config.batch_size, 0
        for shard, length in enumerate(self.shards.lengths.tolist()):
            for start in range(0, length, size):
                if number % self.job.world_size == self.job.rank:
                    yield shard, start, min(start + size, length)
                number += 1

    def _score(self, network: nn.Module, batch: Batch) -> ScoredBatch:
        """Scores of the labels' classes, and each head's own logits where there are two."""
        assert batch.labels is not None
        with autocast(self.job.device, self.runtime.precision):
            logits, by_head = forward_heads(network, self.normalize(batch.views))
        heads = {name: self._select(each) for name, each in by_head.items()}
        if heads:
            scores = torch.stack([each.softmax(dim=1) for each in heads.values()]).mean(dim=0)
        else:
            scores = self._select(logits)
        return ScoredBatch(scores, heads, batch.labels, batch.weights)

    def _select(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        return logits if self.columns is None else select_columns(logits, self.columns)


def build_scorer(
    job: Job,
    config: EvalConfig,
    runtime: RuntimeConfig,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    card: ModelCard,
) -> Scorer:
    """Open the labelled shards and match their classes and views with the network's.

    Args:
        card: what the network is: its classes, where known, and the side of its input.

    Raises:
        ConfigError: the labels' classes are not the network's and cannot be found among them, the shards are not
            labelled, or the views are not of the network's size.
    """
    field = "views.size" if isinstance(config, EvaluateConfig) else "eval.views.size"
    if config.views.size != card.image_size:
        raise ConfigError(
            "the views of the evaluation are not of the network's size",
            where=field,
            found=f"{config.views.size} pixels",
            expected=f"{card.image_size} pixels",
            fix=f"set {field} to {card.image_size}",
        )
    shards = open_shards(config.shards, job, runtime)
    labels, classes = shards.class_list, card_classes(card)
    require_labels(shards, config.shards, len(labels.ids) if labels else card.num_classes, job)
    columns = label_map(labels, classes, card.num_classes)
    if (assumed := assumed_classes(labels, classes, "the model")) is not None:
        say(job, assumed)
    num_classes = card.num_classes if columns is None else len(columns)
    return Scorer(job, config, runtime, shards, columns, num_classes, normalize, assumed is None)
