"""The proxy of a full training: candidates are trained briefly from a store, and scored on shards that are held out.

A process works alone here: nothing is exchanged with others, and all of them hold out the same shards.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from tinyvit_kd.batches.labels import Int64, Labels
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.brief_training import begin_part, normalizer, train_part
from tinyvit_kd.contraction.held_out import Split, split_shards
from tinyvit_kd.contraction.held_out_batches import HeldOutSamples
from tinyvit_kd.contraction.needed_blocks import require_needed_blocks
from tinyvit_kd.contraction.records import Score
from tinyvit_kd.contraction.sample_losses import Losses
from tinyvit_kd.contraction.scores import losses_of, score_of, scored_logits, sums_by_sample
from tinyvit_kd.data.loader import loading_in_turns, steps_in_work
from tinyvit_kd.errors import ConfigError, NonFiniteLossError
from tinyvit_kd.models.answer import ready_to_answer
from tinyvit_kd.models.student import train_both_heads
from tinyvit_kd.runs.batch_sizes import check_schedule
from tinyvit_kd.runs.cached_shards import turns_with_shards
from tinyvit_kd.runs.stored_data import StoredData, labels_in_head, open_stored_data
from tinyvit_kd.runs.stored_views import choose_stored_views
from tinyvit_kd.runs.student_run import SampleNames
from tinyvit_kd.runtime.compiling import compiler_of, forget_compiled
from tinyvit_kd.runtime.device import autocast, move_to_device, resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.training.meters import finite_rows
from tinyvit_kd.training.objectives import DistillObjective

SCORED_VIEWS = 4  # stored views of each held-out sample, at most, from view 0 on


@dataclass(frozen=True)
class Proxy:
    """Trains and scores candidates, from shards and stores that were opened once.

    Attributes:
        config: the recipe.
        data: shards and stores.
        plan: which samples are trained on, with the recipe's seed.
        held_out: the samples that are scored.
    """

    config: ContractConfig
    data: StoredData
    plan: StepPlan
    held_out: HeldOutSamples

    @property
    def num_classes(self) -> int:
        """C of the candidates' heads."""
        return self.data.num_classes

    @property
    def image_size(self) -> int:
        """Side of the views, pixels."""
        return self.data.image_size

    @property
    def has_labels(self) -> bool:
        """Whether scores have a top-1."""
        return self.held_out.has_labels

    @property
    def identity(self) -> dict[str, str]:
        """What must be the same for scores to be comparable, as values by name: the data, and what is held out."""
        split = self.held_out.split
        return self.data.identity | {
            "held-out shards": ", ".join(self.data.shards.names[shard] for shard in split.held_out),
            "held-out views": str(self.held_out.views),
        }

    def train(self, network: nn.Module, first: int, last: int, seed: int) -> None:
        """Make steps ``first`` to ``last - 1`` of a candidate's budget, in place, on the device of the job.

        A part has an optimiser of its own, and its own warm-up and cosine. Its batches are those of steps ``first`` to
        ``last - 1`` in the order of the seed: the next part goes on where this one ended. The loss, what is frozen and
        what happens to steps with NaN are those of the recipe; there is no average of weights. On the CPU the same
        arguments give the same bits, for any number of loading processes.

        Args:
            network: with ``num_classes`` classes, for views of ``image_size`` pixels.
            seed: of the order of samples, and of stochastic depth.

        Raises:
            NonFiniteLossError: the loss or a gradient became NaN or infinite; the weights mean nothing then.
            ConfigError: the loss is that of a distillation token, and the network has none.
            ReplayError: a view differs from the one that a teacher saw.
            WorkerError, StalledError: see ``data.loader.loading``.
            Preempted: a signal asked to stop.
        """
        assert 0 <= first < last <= self.config.proxy.steps
        config, data, job = self.config, self.data, self.data.job
        plan = replace(self.plan, schedule=self.plan.schedule.model_copy(update={"seed": seed}))
        if data.trains_both_heads:
            train_both_heads(network)
        move_to_device(network, job.device, config.runtime.channels_last)
        compiler = compiler_of(config.runtime, job)
        if compiler.on:
            forget_compiled()
        steps = range(first, last)
        run, state = begin_part(config, network, steps, seed, compiler, SampleNames(data.shards, plan))
        maker = data.batch_maker(plan, steps_in_work(config.runtime))
        with (
            closing(turns_with_shards(data.shards, plan, iter([steps]), config.runtime, job)) as turns,
            loading_in_turns(maker, turns, config.runtime, job.device) as batches,
        ):
            train_part(run, state, batches, data.objective)

    def score(self, network: nn.Module, steps: int, seed: int) -> tuple[Score, Losses]:
        """Score a network on all held-out samples, by the first stored views of each.

        It is moved to the job's device, and left in evaluation mode.

        Args:
            steps, seed: of its training so far, which the score names.

        Returns:
            the score, and the cross-entropy of each held-out sample, float32 [N] with NaN for holes.

        Raises:
            NonFiniteLossError: the network's answers are NaN or infinite.
            StoreError: nearly all held-out samples are holes.
            ReplayError: a view differs from the one that a teacher saw.
            WorkerError, StalledError: see ``data.loader.loading``.
            Preempted: a signal asked to stop.
        """
        job, runtime = self.data.job, self.config.runtime
        move_to_device(network, job.device, runtime.channels_last)
        ready_to_answer(network, job.device)
        precision = resolve_precision(job.device, runtime.precision, trains=False)
        sums, overflown = self._measure(network, precision)
        if overflown and precision == "float16":
            sums, overflown = self._measure(network, "float32")
        if overflown:
            raise NonFiniteLossError(
                "a network's answers are NaN or infinite",
                where=f"held-out samples, after {counted(steps, 'step')}",
                found=f"in {overflown:,} views",
                fix="lower proxy.base_lr or optim.base_lr, or clip gradients harder (optim.clip_grad)",
            )
        return score_of(sums, steps, seed, self.data.stores[0].where), losses_of(sums)

    def _measure(self, network: nn.Module, precision: str) -> tuple[torch.Tensor, int]:
        """Sums by sample, and for how many of the scored views an output was NaN or infinite."""
        held_out, device = self.held_out, self.data.job.device
        normalize = normalizer(self.config, device)
        assert isinstance(self.data.objective, DistillObjective)
        teachers = self.data.objective.teachers
        sums: list[torch.Tensor] = []
        overflown = torch.zeros((), dtype=torch.int64, device=device)
        with (
            saying("scoring a candidate", len(held_out.runs), "batch") as beat,
            held_out.batches() as batches,
            torch.inference_mode(),
        ):
            for batch in batches:
                raise_if_stopped()
                with autocast(device, precision):
                    logits = scored_logits(network, normalize(batch.views))
                assert batch.targets is not None
                targets = teachers.mean(batch.targets, logits.shape[1])
                sums.append(sums_by_sample(logits, batch, targets, held_out.views))
                overflown += ((batch.weights > 0) & ~finite_rows(logits)).sum()
                beat.advance()
        return torch.cat(sums), int(overflown.item())


def open_proxy(config: ContractConfig, job: Job) -> Proxy:
    """Open the shards and stores of a recipe, and hold out some of the shards.

    Args:
        job: of this process alone.

    Raises:
        StoreError: there are fewer than two shards, or a store is missing, incomplete, or belongs to other shards,
            views or to another renderer.
        ConfigError: the loss needs labels, and there are none of the store's classes; or batch and lanes do not fit
            together, or the samples that are left do not fill one step.
    """
    assert job.world_size == 1
    data = open_stored_data(config, job)
    check_schedule(config.schedule, data.shards, job)
    split = split_shards(
        data.shards.lengths.tolist(), config.proxy.held_out, config.schedule.seed, data.stores[0].where
    )
    plan = _training_plan(config, data, split)
    # The epochs are those of a candidate's budget, so that just the views are required that it uses.
    epochs = -(-config.proxy.steps // plan.steps_per_epoch)
    schedule = config.schedule.model_copy(update={"epochs": epochs})
    data = replace(data, config=config.model_copy(update={"schedule": schedule}))
    stored = choose_stored_views(data.config, data.stores, job, None, 0)
    views = min(SCORED_VIEWS, stored.counts[-1][1])
    for store in data.stores:
        require_needed_blocks(store, split, stored.used(range(epochs)), range(views))
    class_map, has_labels = _labels(config, data, split)
    held_out = HeldOutSamples(
        data=data,
        split=split,
        views=views,
        batch_size=schedule.micro_batch_size or schedule.global_batch_size,
        class_map=class_map,
        has_labels=has_labels,
    )
    say(
        job,
        f"held out to score candidates: {counted(len(split.held_out), 'shard')} of {len(split.lengths):,}, with "
        f"{counted(sum(split.scored), 'sample')} in {counted(views, 'view')} each",
    )
    return Proxy(config, data, replace(plan, schedule=schedule, stored=stored), held_out)


def _training_plan(config: ContractConfig, data: StoredData, split: Split) -> StepPlan:
    """The plan of the samples that are left, without views.

    Raises:
        ConfigError: they do not fill a step.
    """
    schedule = config.schedule
    plan = StepPlan(split.trained, schedule, range(schedule.lanes), data.pairs_seed)
    per_step = schedule.global_batch_size // schedule.views_per_sample
    if not plan.steps_per_epoch:
        raise ConfigError(
            "the samples that are not held out do not fill one step",
            where="schedule.global_batch_size, proxy.held_out",
            found=f"{sum(split.trained)} samples left of {sum(split.lengths)}, "
            f"{per_step} per step from {counted(schedule.lanes, 'lane')}",
            fix="lower schedule.global_batch_size (and schedule.lanes) or proxy.held_out, or build the images into "
            "more shards",
        )
    return plan


def _labels(config: ContractConfig, data: StoredData, split: Split) -> tuple[Int64 | None, bool]:
    """Where the labels' classes are in the head, and whether there are held-out labels of its classes.

    What keeps labels from being used is no error if the loss uses none: scores are without a top-1 then.
    """
    shards, job = data.shards, data.job
    if not config.loss.uses_labels and shards.label_counts().largest < 0:
        return None, False
    try:
        class_map = labels_in_head(config, shards, data.classes, data.num_classes, job)
    except ConfigError as error:
        say(job, f"candidates are scored without top-1, as the labels cannot be used: {error}")
        return None, False
    labels = Labels(shards.reader(), class_map)
    return class_map, any(labels.has_any(shard, split.lengths[shard]) for shard in split.held_out)
