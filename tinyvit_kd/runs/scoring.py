"""Accuracy of a network on labelled shards, every sample counted once over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.batches.evaluation_batches import EvalBatches
from tinyvit_kd.batches.shard_uses import uses_of
from tinyvit_kd.batches.shards_ahead import fetching_ahead, following
from tinyvit_kd.config.recipes import EvalConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer, ready_to_answer
from tinyvit_kd.models.head import distilled_heads, forward_heads, select_columns
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runs.class_lists import assumed_classes, card_classes, label_map
from tinyvit_kd.runs.label_checks import require_labels
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device import autocast, resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.leaving import Leaving
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.signals import AgreedStop, StopRequest
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.evaluation_metrics import METRICS, ScoredBatch
from tinyvit_kd.training.meters import finite_rows


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
    compiler: Compiler  # runs networks with one head
    _tried: set[str] = field(default_factory=set)  # precisions for which it has been tried out

    def __call__(self, network: nn.Module, stop: StopRequest | None = None) -> dict[str, float]:
        """The results of all ``training.evaluation_metrics.METRICS``; every process must call.

        Args:
            stop: whether a signal has asked the run to stop; None: signals raise by themselves.

        Returns:
            top1, top5, mean_per_class (the mean over classes of top-1 inside each), all in percent; samples, left_out,
            and as its parts left_out_unlabelled and left_out_undecodable (a label, but no image). A network with a
            distillation head is scored by the mean of both heads' softmax (DeiT, arXiv 2012.12877, section 4), and has
            top1_head and top1_head_dist besides, each head's own, and top1_mean_of_logits, as DeiT's code scores it.

        Raises:
            AgreedStop: a process was asked to stop.
        """
        ready_to_answer(network, self.job.device)
        precision = resolve_precision(self.job.device, self.runtime.precision, trains=False)
        results, overflown = self._measure(network, precision, stop)
        if overflown and precision == "float16":
            say(self.job, f"in float16 the answers to {overflown:,} samples are not finite: scoring again in float32")
            results, overflown = self._measure(network, "float32", stop)
        if overflown:
            say(
                self.job,
                f"the network's answers to {overflown:,} samples are NaN or infinite: these scores mean nothing",
            )
        return results

    def _measure(self, network: nn.Module, precision: str, stop: StopRequest | None) -> tuple[dict[str, float], int]:
        """The results in one precision, and for how many of the scored samples an output was NaN or infinite."""
        device = self.job.device
        leaving = Leaving(self.job, stop)
        self._warm_up(network, precision, leaving)
        heads = tuple(distilled_heads(network))
        metrics = [metric(self.num_classes, heads, device) for metric in METRICS]
        overflown = torch.zeros((), dtype=torch.float64, device=device)

        def score() -> None:
            with saying("evaluation", self._batches(), "batch") as beat, self._loading() as batches:
                for batch in batches:
                    leaving.look()
                    beat.advance()
                    scored = self._score(network, batch, precision)
                    overflown.add_((batch.weights * ~finite_rows(scored.scores)).sum())
                    for metric in metrics:
                        metric.update(scored)

        leaving.work(score)
        # Here all meet: the last batch of one process may take longer than a collective operation may.
        if leaving.agreed():
            raise AgreedStop("stopped during an evaluation; run the same command again to continue")
        results: dict[str, float] = {}
        for metric in metrics:
            results |= metric.results(self.job.sum(metric.sums))
        return results, int(self.job.sum(overflown).item())

    @contextmanager
    def _loading(self) -> Iterator[Iterator[Batch]]:
        """This rank's batches, for answers that are not learned from."""
        make = EvalBatches(self.shards.reader(), self.config.views, self.config.batch_size)
        uses = uses_of(self.shards.locations[shard] for shard, _, _ in self._tasks())
        with (
            fetching_ahead(self.shards) as ahead,
            loading(
                make, following(ahead, self._tasks(), uses, self.runtime), self.runtime, self.job.device
            ) as batches,
            self.compiler.without_gradients(),
        ):
            yield batches

    def _batches(self) -> int:
        """How many batches rank 0 scores; it has a batch more than others at most."""
        batches = sum(-(-length // self.config.batch_size) for length in self.shards.lengths.tolist())
        return int(-(-batches // self.job.world_size))

    def _tasks(self) -> Iterator[tuple[int, int, int]]:
        """Runs of samples (shard, start, stop); the ranks take them in turn."""
        size, number = self.config.batch_size, 0
        for shard, length in enumerate(self.shards.lengths.tolist()):
            for start in range(0, length, size):
                if number % self.job.world_size == self.job.rank:
                    yield shard, start, min(start + size, length)
                number += 1

    def _score(self, network: nn.Module, batch: Batch, precision: str) -> ScoredBatch:
        """Scores of the labels' classes, and each head's own logits where there are two."""
        assert batch.labels is not None
        if not distilled_heads(network):
            scores = self._select(self.answers(network, batch.views, precision))
            return ScoredBatch(scores, {}, batch.labels, batch.weights)
        with autocast(self.job.device, precision):
            _, by_head = forward_heads(network, self.normalize(batch.views))
        heads = {name: self._select(each.float()) for name, each in by_head.items()}
        scores = torch.stack([each.softmax(dim=1) for each in heads.values()]).mean(dim=0)
        return ScoredBatch(scores, heads, batch.labels, batch.weights)

    def answers(self, network: nn.Module, views: torch.Tensor, precision: str) -> torch.Tensor:
        """A network's logits, float32 [B, C], on the device of the views, uint8 [B, 3, S, S].

        Where it is compiled, a shard's last batch is filled up with black views, whose answers are dropped: another
        number of views would be compiled anew.
        """
        count = len(views)
        if self.compiler.on and count < self.config.batch_size:
            views = F.pad(views, (0, 0) * 3 + (0, self.config.batch_size - count))
        self.compiler.begin_step()
        with autocast(self.job.device, precision):
            return self.compiler(answer, network, self.normalize, views)[:count]

    def _warm_up(self, network: nn.Module, precision: str, leaving: Leaving) -> None:
        """Compile the network, if that is asked for and this is the first one in this precision."""
        if precision in self._tried or distilled_heads(network):
            return
        self._tried.add(precision)
        size, device = self.config.views.size, self.job.device
        views = torch.zeros(self.config.batch_size, 3, size, size, dtype=torch.uint8, device=device)

        def attempt() -> None:
            with self.compiler.without_gradients():
                self.answers(network, views, precision)

        self.compiler.try_out("the network for evaluation", lambda: leaving.work(attempt))

    @cached_property
    def _columns(self) -> torch.Tensor | None:
        """``columns`` on the device."""
        return None if self.columns is None else torch.from_numpy(self.columns).to(self.job.device)

    def _select(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self._columns is None else select_columns(logits, self._columns)


def build_scorer(
    job: Job,
    config: EvalConfig,
    runtime: RuntimeConfig,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    card: ModelCard,
    compiler: Compiler,
    views_field: str = "eval.views",
) -> Scorer:
    """Open the labelled shards and match their classes and views with the network's.

    Args:
        card: what the network is: its classes, where known, and the side of its input.
        compiler: runs networks with one head.
        views_field: the recipe's name for the views, for messages.

    Raises:
        ConfigError: the labels' classes are not the network's and cannot be found among them, the shards are not
            labelled, or the views are not of the network's size.
    """
    require_views_of(config.views.size, card.image_size, f"{views_field}.size")
    shards = open_shards(config.shards, job, runtime)
    labels, classes = shards.class_list, card_classes(card)
    classes_of_labels = len(labels.ids) if labels else card.num_classes
    require_labels(shards, config.shards, classes_of_labels, job, views_field.removesuffix("views") + "shards")
    columns = label_map(labels, classes, card.num_classes)
    if (assumed := assumed_classes(labels, classes, "the model")) is not None:
        say(job, assumed)
    num_classes = card.num_classes if columns is None else len(columns)
    return Scorer(job, config, runtime, shards, columns, num_classes, normalize, assumed is None, compiler)


def require_views_of(size: int, image_size: int, field: str) -> None:
    """Check that views are of the network's size, pixels.

    Args:
        field: the recipe's name for the views' size, for messages.

    Raises:
        ConfigError: they are not.
    """
    if size != image_size:
        raise ConfigError(
            "the views of the evaluation are not of the network's size",
            where=field,
            found=f"{size} pixels",
            expected=f"{image_size} pixels",
            fix=f"set {field} to {image_size}"
            + (f", or image_size to {size} if the network takes it" if field == "views.size" else ""),
        )
