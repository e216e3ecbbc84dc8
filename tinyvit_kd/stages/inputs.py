"""What several stages open and check before a device is touched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import LabelledShardsConfig, ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig, ScheduleConfig
from tinyvit_kd.data.labels import ClassList, class_map, load_class_list
from tinyvit_kd.data.order import check_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """The shard set with its byte indexes; rank 0 fetches and indexes what is missing, the others wait for it."""
    with job.main_first(), watched(runtime.data_timeout):
        shards = ShardSet.load(config.path, config.split, cache_dir=config.cache_dir, index_dir=config.index_dir)
        shards.key_hashes()
    return shards


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all keys and image sizes, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all labels, in order."""
    return f"{hash64(*shards.label_hashes()):016x}"


def label_classes(config: LabelledShardsConfig, shards: ShardSet) -> ClassList | None:
    """The class list of a shard set's labels: the recipe's, else the one that lies beside the shards."""
    if config.class_list is not None:
        return load_class_list(config.class_list)
    return shards.class_list


def require_labelled(shards: ShardSet) -> None:
    """Check that there is a label at all.

    Raises:
        ConfigError: there is none.
    """
    if shards.largest_label() < 0:
        raise ConfigError(
            "the shards have no labels",
            where=shards.name,
            expected=".cls or .json members",
            fix="use labelled shards; pretrain needs none where loss.kind is soft or hard and loss.alpha is left out",
        )


def require_labels(shards: ShardSet, num_classes: int) -> None:
    """Check that the shards are labelled, and that every label is a class.

    Raises:
        ConfigError: naming the largest label.
    """
    require_labelled(shards)
    if (largest := shards.largest_label()) >= num_classes:
        raise ConfigError(
            "a label is larger than the number of classes allows",
            where=shards.name,
            found=f"label {largest}",
            expected=f"at most {num_classes - 1}, for {num_classes} classes",
            fix="correct the class list (shards.class_list) or num_classes",
        )


def label_map(labels: ClassList | None, classes: ClassList | None, num_classes: int) -> npt.NDArray[np.int64] | None:
    """Where each class of the labels is in a head: int64 [classes of the labels], -1 where it is not.

    Args:
        labels: the labels' list, where known.
        classes: the head's, where known.
        num_classes: of the head.

    Returns:
        None where they are the same, or have to be taken for the same.

    Raises:
        ConfigError: they differ in number and the head's are not known, or have little in common.
    """
    if labels is None or (classes is not None and labels.ids == classes.ids):
        return None
    if classes is None:
        if len(labels.ids) == num_classes:
            return None
        raise ConfigError(
            "the labels' classes are not the network's, and it is not known which those are",
            found=f"{num_classes} classes in the network, {len(labels.ids)} in {labels.name}",
            fix="name the class list of the model (class_list) or of the teacher (teacher.class_list), for example "
            "imagenet22k",
        )
    found = class_map(classes, labels)
    if (found >= 0).sum() < 0.5 * len(found):
        raise ConfigError(
            "fewer than half of the labels' classes are among the network's",
            found=f"{int((found >= 0).sum())} of {len(found)} classes of {labels.name} in {classes.name}",
            fix="check the class lists of the labelled shards and of the model or the teacher",
        )
    return found


def check_schedule(schedule: ScheduleConfig, shards: ShardSet, job: Job) -> None:
    """Check lanes, batch and micro-batch against the world size and the number of samples.

    Raises:
        ConfigError: naming the nearest values that fit.
    """
    check_lanes(schedule.lanes, schedule.global_batch_size, job.world_size, schedule.views_per_sample)
    micro_batches(schedule, job)
    needed = schedule.global_batch_size // schedule.views_per_sample
    if shards.total < needed:
        raise ConfigError(
            "the shard set is too small for one step an epoch",
            where="schedule.global_batch_size",
            found=f"{needed} samples a step, {shards.total} samples in {shards.name}",
            fix="lower schedule.global_batch_size (and schedule.lanes)",
        )


def micro_batches(schedule: ScheduleConfig, job: Job) -> int:
    """Forward-backward passes a step, of each process.

    Raises:
        ConfigError: a process's share of a batch is not a whole number of micro-batches.
    """
    local = schedule.global_batch_size // job.world_size
    size = schedule.micro_batch_size or local
    if local % size:
        raise ConfigError(
            "a process's share of a batch is not a whole number of micro-batches",
            where="schedule.micro_batch_size",
            found=f"{local} samples on each of {job.world_size} process(es), in micro-batches of {size}",
            expected=f"a divisor of {local}",
        )
    return local // size


def card_classes(card: ModelCard | None) -> ClassList | None:
    """The class list that a model file names."""
    if card is None or card.class_ids is None:
        return None
    return ClassList(card.class_name or "its own", card.class_ids)
