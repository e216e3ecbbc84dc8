"""The data that a student trains on, opened and checked, and the plan of its steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.view_schedule import ViewCounts, ViewSchedule
from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.buffers import BatchMaker
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.objectives import Objective


@dataclass(frozen=True)
class TrainingData(ABC):
    """The data that a stage trains on, opened and checked.

    Attributes:
        shards: the images.
        image_size: side of the views, pixels.
        num_classes: C of the student's head.
        classes: the head's class list; None if it is not known.
        pairs_seed: seed of the pairs whose views are mixed; None if views are not mixed.
        objective: the loss.
        identity: what must be the same for a checkpoint to be continued, as values by name.
        trains_both_heads: whether the objective takes the outputs of both heads of a network with a distillation token.
    """

    shards: ShardSet
    image_size: int
    num_classes: int
    classes: ClassList | None
    pairs_seed: int | None
    objective: Objective
    identity: dict[str, str]
    trains_both_heads: bool

    @property
    def logit_stores(self) -> Sequence[LogitStore]:
        """The stores that the student learns from; none if it learns from labels."""
        return ()

    @abstractmethod
    def batch_maker(self, plan: StepPlan, steps: int = 1) -> BatchMaker[int, Batch]:
        """Makes the batches of this rank, step by step.

        Args:
            steps: within how many consecutive steps loading processes work at the same time.
        """

    def turns(self, plan: StepPlan, steps: range, stop: StopRequest, progress: Progress) -> Iterator[range]:
        """The steps of a run in consecutive parts, each as soon as all that it trains on is there.

        Every process must ask for them at the same step.

        Args:
            steps: those that are left.
            stop: whether a signal has asked the run to stop.
            progress: of the run; told what is waited for.

        Raises:
            Preempted: while a part was waited for, a signal came, or nothing else did for too long.
        """
        del plan, stop, progress
        return iter([steps])

    def view_schedule(self, counts: ViewCounts | None, epoch: int) -> ViewSchedule | None:
        """Which stored views each epoch uses; None if new views are made.

        Args:
            counts: how many views the run has used from which epoch on, from its checkpoint; None if a run starts.
            epoch: the epoch that begins next.
        """
        del counts, epoch
        return None


def step_plan(config: TrainingConfig, data: TrainingData, job: Job, saved: dict[str, Any] | None) -> StepPlan:
    """Which samples this rank trains on, step by step.

    Args:
        saved: the checkpoint that the run continues from; None at the start of a run.

    Raises:
        ConfigError: the samples do not fill one step per epoch.
    """
    lanes = rank_lanes(config.schedule.lanes, job.rank, job.world_size)
    plan = StepPlan(tuple(data.shards.lengths.tolist()), config.schedule, lanes, data.pairs_seed)
    steps = plan.steps_per_epoch
    require_steps(plan)
    if saved is None:
        return replace(plan, stored=data.view_schedule(None, 0))
    # An epoch that has begun keeps its views until it ends.
    next_epoch = -(-saved["step"] // steps)
    return replace(plan, stored=data.view_schedule(saved["kept"].get("stored_views"), next_epoch))


def require_steps(plan: StepPlan) -> None:
    """Check that the samples fill a step of an epoch.

    Raises:
        ConfigError: they do not.
    """
    if not plan.steps_per_epoch:
        raise ConfigError(  # with pairs, a lane may be one sample shorter than its share of the set
            "the shard set is too small for one step per epoch if pairs stay together",
            where="schedule.global_batch_size, schedule.lanes",
            found=f"{sum(plan.shard_lengths)} samples, {plan.schedule.global_batch_size} per step "
            f"from {plan.schedule.lanes} lanes",
            fix="lower schedule.lanes so that each lane gives an even number of samples per step",
        )
