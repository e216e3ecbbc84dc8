"""Stages two and three as their commands run them, with somebody who looks on."""

from __future__ import annotations

from collections.abc import Callable
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
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.objectives import Output

Maker = BatchMaker[int, Batch]
Look = Callable[[Maker, int, Batch], None]  # at a step's batch and who made it


class Seen(NamedTuple):
    """A batch that was trained on."""

    maker: StoredBatches
    step: int
    batch: Batch  # a copy: the memory becomes another batch


@dataclass
class Onlooker:
    """What a student was trained on, and what it answered.

    Attributes:
        batches: of stage two, in order.
        answers: of stage two, for every micro-batch the student's logits [B, C] and the loss.
        reads: how often each image was read.
    """

    batches: list[Seen] = field(default_factory=list)
    answers: list[tuple[torch.Tensor, float]] = field(default_factory=list)
    reads: Reads = field(default_factory=Reads)

    @property
    def views(self) -> list[tuple[int, tuple[int, ...]]]:
        """Epochs, and the numbers of the views that were trained on in them."""
        epochs = [(maker.plan, maker.plan.samples(step)[0]) for maker, step, _ in self.batches]
        return sorted({(epoch, tuple(plan.view_numbers(epoch))) for plan, epoch in epochs})

    def pretrain(self, config: PretrainConfig, stop_at: int | None = None) -> dict[str, float]:
        """Stage two; the batch of a step ``stop_at`` cannot be had."""
        data = open_stored_data(config, solo_job())
        objective = data.objective

        def look(maker: Maker, step: int, batch: Batch) -> None:
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
        return train_student(config, looked_at(replace(data, shards=counted, objective=note), look), solo_job())

    def pretrain_up_to(self, step: int, config: PretrainConfig) -> None:
        """Stage two, up to a step; a checkpoint is left."""
        with pytest.raises(RuntimeError, match="stopped"):
            self.pretrain(config, stop_at=step)

    def finetune(self, config: FinetuneConfig) -> dict[str, float]:
        """Stage three, of which reads alone are noted."""
        data = open_labelled_data(config, solo_job())
        return train_student(config, replace(data, shards=CountingShards.of(data.shards, self.reads)), solo_job())


@dataclass
class LookedAtMaker(BatchMaker[int, Batch]):
    """Another maker's batches, each looked at before it is handed out."""

    maker: Maker
    look: Look

    @property
    def layout(self) -> Layout:
        """The other's."""
        return self.maker.layout

    def fill(self, task: int, arrays: Arrays) -> tuple[int, Any]:
        """As the other; the step goes with what it returns."""
        return task, self.maker.fill(task, arrays)

    def join(self, tensors: Tensors, extra: tuple[int, Any]) -> Batch:
        """As the other."""
        step, of_the_other = extra
        batch = self.maker.join(tensors, of_the_other)
        self.look(self.maker, step, batch)
        return batch


@dataclass(frozen=True)
class LookedAtData(TrainingData):
    """Another stage's data, whose batches are looked at."""

    data: TrainingData
    look: Look

    def batch_maker(self, plan: StepPlan) -> LookedAtMaker:
        """The other's."""
        return LookedAtMaker(self.data.batch_maker(plan), self.look)

    def view_schedule(self, counts: ViewCounts | None, epoch: int) -> ViewSchedule | None:
        """The other's."""
        return self.data.view_schedule(counts, epoch)


def looked_at(data: TrainingData, look: Look) -> LookedAtData:
    """The same data."""
    return LookedAtData(**{each.name: getattr(data, each.name) for each in fields(TrainingData)}, data=data, look=look)
