"""Run stages two and three as their commands do, and record what they train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import pytest
import torch

from tests.data.counting import CountingShards, Reads
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewCounts, ViewSchedule
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.runs.labelled_data import open_labelled_data
from tinyvit_kd.runs.stored_data import open_stored_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runs.training_data import TrainingData
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.objectives import Output

Maker = BatchMaker[int, Batch]
Observer = Callable[[Maker, int, Batch], None]  # takes the maker, the step and the batch


class Seen(NamedTuple):
    """A batch that was trained on."""

    maker: StoredBatches
    step: int
    batch: Batch  # a copy, because the loader reuses the memory


@dataclass
class RunRecorder:
    """Records the batches, outputs and image reads of training runs.

    Attributes:
        batches: the batches of stage two, in order.
        answers: the student's logits [B, C] and the loss of every micro-batch of stage two.
        reads: how often each image was read.
    """

    batches: list[Seen] = field(default_factory=list)
    answers: list[tuple[torch.Tensor, float]] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)

    @property
    def views(self) -> list[tuple[int, tuple[int, ...]]]:
        """Each epoch with the numbers of the views that it trained on."""
        epochs = [(maker.plan, maker.plan.samples(step)[0]) for maker, step, _ in self.batches]
        return sorted({(epoch, tuple(plan.view_numbers(epoch))) for plan, epoch in epochs})

    def pretrain(self, config: PretrainConfig, stop_at: int | None = None) -> dict[str, float]:
        """Run stage two.

        Args:
            stop_at: the step at which loading fails; None: none does.

        Raises:
            RuntimeError: at that step.
        """
        data = open_stored_data(config, solo_job())
        objective = data.objective

        def observe(maker: Maker, step: int, batch: Batch) -> None:
            assert isinstance(maker, StoredBatches)
            if step == stop_at:
                raise RuntimeError("stopped")
            self.batches.append(Seen(maker, step, batch._map(torch.clone)))

        def note(output: Output, batch: Batch) -> dict[str, torch.Tensor]:
            parts = objective(output, batch)
            if isinstance(output, torch.Tensor):
                self.answers.append((output.detach().double(), parts["loss"].item()))
            return parts

        counted = CountingShards.of(data.shards, self.reads)
        return train_student(config, observed(replace(data, shards=counted, objective=note), observe), solo_job())

    def pretrain_up_to(self, step: int, config: PretrainConfig) -> None:
        """Run stage two up to a step, which leaves a checkpoint."""
        with pytest.raises(RuntimeError, match="stopped"):
            self.pretrain(config, stop_at=step)

    def finetune(self, config: FinetuneConfig) -> dict[str, float]:
        """Run stage three; only its image reads are recorded."""
        data = open_labelled_data(config, solo_job())
        return train_student(config, replace(data, shards=CountingShards.of(data.shards, self.reads)), solo_job())


@dataclass
class ObservedMaker(BatchMaker[int, Batch]):
    """Wraps a batch maker and shows each batch to a function."""

    maker: Maker
    observe: Observer

    @property
    def layout(self) -> Layout:
        """The layout of the wrapped maker."""
        return self.maker.layout

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Share what the wrapped maker shares."""
        with self.maker.shared():
            yield

    def fill(self, task: int, arrays: Arrays) -> tuple[int, Any]:
        """Fill by the wrapped maker; the step travels with what it returns."""
        return task, self.maker.fill(task, arrays)

    def join(self, tensors: Tensors, extra: tuple[int, Any]) -> Batch:
        """Join by the wrapped maker, and show the batch."""
        step, inner_extra = extra
        batch = self.maker.join(tensors, inner_extra)
        self.observe(self.maker, step, batch)
        return batch


@dataclass(frozen=True)
class ObservedData(TrainingData):
    """Wraps a stage's training data and shows each batch to a function."""

    data: TrainingData
    observe: Observer

    def batch_maker(self, plan: StepPlan, steps: int = 1) -> ObservedMaker:
        """The wrapped batch maker."""
        return ObservedMaker(self.data.batch_maker(plan, steps), self.observe)

    def turns(self, plan: StepPlan, steps: range, stop: StopRequest, progress: Progress) -> Iterator[range]:
        """The turns of the wrapped data."""
        return self.data.turns(plan, steps, stop, progress)

    def view_schedule(self, counts: ViewCounts | None, epoch: int) -> ViewSchedule | None:
        """The schedule of the wrapped data."""
        return self.data.view_schedule(counts, epoch)


def observed(data: TrainingData, observe: Observer) -> ObservedData:
    """Wrap training data; everything else stays the same."""
    return ObservedData(
        **{each.name: getattr(data, each.name) for each in fields(TrainingData)}, data=data, observe=observe
    )
