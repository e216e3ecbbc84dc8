"""What a student run prints about itself before its first step."""

from __future__ import annotations

from collections.abc import Iterator

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runs.opened_network import in_figures
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.training.learning_rate import scaled_rates
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState

MAX_FIRST_SHARE = 0.1  # share of the first weights in the final average, above which a run warns


def report_start(
    config: TrainingConfig, shards: ShardSet, card: ModelCard, run: Run, state: TrainState, first: ModelCard | None
) -> None:
    """Print the size of the run, its learning rates, and warnings about settings that are often mistakes.

    Args:
        card: what the student is.
        first: what the network of its first weights is; None if that is not known, or they are random.
    """
    rates = scaled_rates(config.optim, run.global_batch_size)
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    say(
        run.job,
        f"{config.output}: {parameters / 1e6:.2f}M parameters, {card.num_classes} classes, {card.image_size} pixels; "
        f"{counted(shards.total, 'sample')} in {counted(len(shards.names), 'shard')}, "
        f"{run.steps_per_epoch} steps per epoch, "
        f"{run.total_steps} steps of {counted(run.global_batch_size, 'sample')} on "
        f"{counted(run.job.world_size, 'process')}; "
        f"learning rate {rates.warmup:.3g} → {rates.peak:.3g} (peak) → {rates.minimum:.3g}",
    )
    for warning in _warnings(config, run.total_steps, first):
        say(run.job, warning)


def _warnings(config: TrainingConfig, steps: int, first: ModelCard | None) -> Iterator[str]:
    """Warnings about settings that may be intended, but are more often mistakes."""
    decay = config.train.ema_decay or 0.0
    if (first_share := decay**steps) > MAX_FIRST_SHARE:
        yield (
            f"{first_share:.0%} of the final average will come from the weights at the start, and the average is what "
            f"is scored and written: lower train.ema_decay ({decay:g}), or omit it, for a short run"
        )
    own = config.normalize
    if first is not None and (tuple(first.mean), tuple(first.std)) != (own.mean, own.std):
        theirs = f"mean {in_figures(first.mean)} and deviation {in_figures(first.std)}"
        yield (
            f"{config.student.origin} was trained on input of {theirs}, and this run's has mean "
            f"{in_figures(own.mean)} and deviation {in_figures(own.std)}: set normalize.mean and normalize.std to the "
            "former, unless that is meant"
        )
    if config.train.trainable == "head" and config.student.origin is None:
        yield (
            "only the head is trained, and the weights before it are random: set student.init_from to the weights to "
            "start from, or train.trainable to all"
        )
