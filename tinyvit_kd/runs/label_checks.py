"""Checks labels before a run: that there are enough of them, and that they fit the number of classes."""

from __future__ import annotations

from tinyvit_kd.config.data import LabelledShardsConfig
from tinyvit_kd.data.indexing.summaries import LabelCounts
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say

_WHAT_TO_DO = (
    "name the field of .json that is the label ({0}.label_key), or the class list in which names are looked up "
    "({0}.class_list), or correct the labels"
)


def require_labelled(shards: ShardSet, config: LabelledShardsConfig, section: str = "shards") -> LabelCounts:
    """Check that samples have labels, all but ``max_unlabelled_fraction`` of them.

    Args:
        config: the section of the recipe that names the shards.
        section: its name, for messages.

    Returns:
        the labels in numbers.

    Raises:
        ConfigError: there are none, or too few; it says what the first sample without one has instead.
    """
    counts = shards.label_counts()
    if counts.unlabelled <= config.max_unlabelled_fraction * counts.samples and counts.largest >= 0:
        return counts
    none = counts.largest < 0
    limit = f"at most {config.max_unlabelled_fraction:.2%} without one ({section}.max_unlabelled_fraction)"
    raise ConfigError(
        "the shards have no labels" if none else "too many samples have no label",
        where=shards.name,
        found=f"{describe_unlabelled(counts)}; the first is {shards.first_unlabelled()}"
        if counts.samples
        else "no samples",
        expected="a class's number in .cls, .json, .label or .txt, or its name or id in the class list"
        + ("" if none else f"; {limit}"),
        fix=_WHAT_TO_DO.format(section)
        + (
            "; pretrain needs none where loss.kind is soft or hard and loss.alpha is left out"
            if none
            else f"; to leave these samples out, raise {section}.max_unlabelled_fraction"
        ),
    )


def require_labels(
    shards: ShardSet, config: LabelledShardsConfig, num_classes: int, job: Job, section: str = "shards"
) -> None:
    """Check that the shards are labelled, and that every label is below ``num_classes``; say what is odd about them.

    Raises:
        ConfigError: there are too few labels (see ``require_labelled``), or the largest one, which is named, is too
            large.
    """
    counts = require_labelled(shards, config, section)
    if counts.largest >= num_classes:
        _refuse_large(shards, counts, config.first_label, num_classes, section)
    if counts.unlabelled:
        say(job, f"{shards.name}: {describe_unlabelled(counts)}; the first is {shards.first_unlabelled()}")
    if counts.smallest == 1 and config.first_label == 0:
        say(
            job,
            f"{shards.name}: labels are 1 to {counts.largest} and none is 0, for {num_classes} classes that count from "
            f"0: if the labels count from 1, set {section}.first_label to 1",
        )


def describe_unlabelled(counts: LabelCounts) -> str:
    """How many samples have no label, for people."""
    return (
        f"{counts.unlabelled:,} of {counts.samples:,} samples ({counts.unlabelled / counts.samples:.2%}) have no label"
    )


def _refuse_large(shards: ShardSet, counts: LabelCounts, first_label: int, num_classes: int, section: str) -> None:
    from_one = counts.smallest == 1 and counts.largest == num_classes and first_label == 0
    raise ConfigError(
        "labels count from 1, and classes from 0" if from_one else "a label is too large for the number of classes",
        where=shards.name,
        found=f"labels from 1 to {counts.largest}, none is 0" if from_one else f"label {counts.largest + first_label}",
        expected=f"at most {num_classes - 1 + first_label}, for {num_classes} classes",
        fix=f"set {section}.first_label to 1, or correct the labels"
        if from_one
        else f"correct the class list ({section}.class_list), num_classes or {section}.first_label",
    )
