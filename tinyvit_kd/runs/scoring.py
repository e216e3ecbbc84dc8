"""Accuracy of a network on labelled shards, every sample counted once over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tinyvit_kd.batches.evaluation import EvalBatches
from tinyvit_kd.config.stages import EvalConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head import distilled_heads, forward_heads, select_columns
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runs.class_lists import card_classes, label_classes, label_map, require_labels
from tinyvit_kd.runs.shards import open_shards
from tinyvit_kd.runtime.device import autocast
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.metrics import class_counts, mean_per_class, topk_right


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

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Accuracy in percent, and how many samples were scored and left out.

        Returns:
            top1, top5, mean_per_class (the mean over classes of top-1 inside each), samples, left_out (holes, and what
            has no label). A network with a distillation head is scored by the mean of both heads' softmax (DeiT, arXiv
            2012.12877, section 4), and has top1_head and top1_head_dist besides, each head's own.
        """
        device, classes = self.job.device, self.num_classes
        network.eval()
        heads = tuple(distilled_heads(network))
        sums = torch.zeros(4 + len(heads), dtype=torch.float64, device=device)
        by_class = torch.zeros(2, classes, dtype=torch.float64, device=device)
        make = EvalBatches(self.shards.reader(), self.config.views, self.config.batch_size)
        with loading(make, self._tasks(), self.runtime, device) as batches, torch.inference_mode():
            for batch in batches:
                raise_if_stopped()
                counts, counts_by_class = self._count(network, batch)
                sums += counts
                by_class += counts_by_class
        top1, top5, scored, left_out, *own = self.job.sum(sums).tolist()
        share = 100 / max(scored, 1)
        results = {"top1": top1 * share, "top5": top5 * share}
        results["mean_per_class"] = 100 * mean_per_class(self.job.sum(by_class))
        results |= {f"top1_{head}": right * share for head, right in zip(heads, own, strict=True)}
        return results | {"samples": scored, "left_out": left_out}

    def _tasks(self) -> Iterator[tuple[int, int, int]]:
        """Runs of samples (shard, start, stop); the ranks take them in turn."""
        size, number = self.config.batch_size, 0
        for shard, length in enumerate(self.shards.lengths.tolist()):
            for start in range(0, length, size):
                if number % self.job.world_size == self.job.rank:
                    yield shard, start, min(start + size, length)
                number += 1

    def _count(self, network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a batch: right among the best 1 and 5, scored, left out, right by each head; and by class, [2, C]."""
        labels, weights = batch.labels, batch.weights
        assert labels is not None
        scores, by_head = self._scores(network, batch)
        top1, top5 = topk_right(scores, labels, weights, (1, 5))
        own = [topk_right(logits, labels, weights, (1,))[0].sum() for logits in by_head]
        scored = weights.sum()
        counts = torch.stack([top1.sum(), top5.sum(), scored, len(weights) - scored, *own]).double()
        return counts, class_counts(top1, labels, weights, self.num_classes)

    def _scores(self, network: nn.Module, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Scores [B, C] of the labels' classes, the higher the better, and each head's own where there are two."""
        with autocast(self.job.device, self.runtime.precision):
            logits, by_head = forward_heads(network, self.normalize(batch.views))
        heads = [self._select(each) for each in by_head.values()]
        if not heads:
            return self._select(logits), []
        return torch.stack([each.softmax(dim=1) for each in heads]).mean(dim=0), heads

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
    num_classes = card.num_classes if columns is None else len(columns)
    return Scorer(job, config, runtime, shards, columns, num_classes, normalize)
