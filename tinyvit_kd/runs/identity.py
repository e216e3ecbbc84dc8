"""The identity of a run: what must be the same for its checkpoints to be continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.first_weights import FirstWeights
from tinyvit_kd.runtime.distributed import Job

_LISTED = 10  # changes that are listed; the others are counted
_LENGTH = 80  # characters of a value after which it is cut off


def run_identity(
    config: TrainingConfig, num_classes: int, classes: ClassList | None, first_weights: FirstWeights
) -> dict[str, str]:
    """The identity of a run apart from its data, as values by name; the number of processes is not a part of it."""
    sections = {
        "student": config.student,
        "normalize": config.normalize,
        "optim": config.optim,
        "schedule": config.schedule,
    }
    return {
        **{name: json.dumps(section.model_dump(mode="json")) for name, section in sections.items()},
        "classes": f"{num_classes} {classes.hash if classes else ''}",
        "start": first_weights.weights_hash,
        "trainable": config.train.trainable,
        "average": f"ema_decay {config.train.ema_decay}",
        "batch norm": f"freeze_bn_stats {config.train.freeze_bn_stats}",
    }


def require_same_everywhere(identity: dict[str, str], job: Job) -> None:
    """Check that all processes have the same data, recipe and first weights, which may come from their own disks.

    Raises:
        ConfigError: a process differs from rank 0; it names the first difference.
    """
    first, *others = job.gather(identity)
    for rank, other in enumerate(others, 1):
        names = differing(first, other)
        if names:
            raise ConfigError(
                f"the processes of this job differ in {joined(names)}",
                found=f"from rank 0 to rank {rank}: {describe_changes(first, other)}",
                fix="give all machines the same recipe, shards, store and files",
            )


def differing(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of what differs between two identities."""
    return [name for name, value in now.items() if before.get(name) != value]


def describe_changes(before: dict[str, str], now: dict[str, str]) -> str:
    """What differs, of sections field by field: ``optim.base_lr 0.05 → 0.04; start random → 12ab…``."""
    changes = [
        change
        for name in differing(before, now)
        for change in _changes(name, _value(before.get(name)), _value(now[name]))
    ]
    more = [f"and {len(changes) - _LISTED} more"] if len(changes) > _LISTED else []
    return "; ".join([*changes[:_LISTED], *more])


def _value(text: str | None) -> Any:
    """A section as a mapping; anything else as it is."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def _changes(name: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            if before.get(key) != now.get(key):
                yield from _changes(f"{name}.{key}", before.get(key), now.get(key))
    else:
        yield f"{name} {_shown(before)} → {_shown(now)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


def joined(names: list[str]) -> str:
    """Names in a sentence: ``optim, loss and start``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
