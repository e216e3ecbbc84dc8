"""What must be the same for a run to be continued."""

from __future__ import annotations

import json

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.class_list import ClassList
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.first_weights import FirstWeights
from tinyvit_kd.runtime.distributed import Job


def run_identity(
    config: TrainingConfig, num_classes: int, classes: ClassList | None, first_weights: FirstWeights
) -> dict[str, str]:
    """What of a recipe must be the same for a checkpoint to be continued; the number of processes is not in it."""
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
    """Check that all processes have the same data, recipe and first weights, which may lie on their own disks."""
    theirs = job.gather(identity)
    for rank, (name, value) in ((rank, item) for rank, each in enumerate(theirs) for item in each.items()):
        if theirs[0].get(name) != value:
            raise ConfigError(
                f"the processes of this job have another {name} each",
                found=f"{value} on rank {rank}",
                expected=f"{theirs[0].get(name)}, as on rank 0",
                fix="give all machines the same recipe, shards, store and files",
            )
