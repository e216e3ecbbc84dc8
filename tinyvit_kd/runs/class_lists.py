"""Finds the class lists of labels, heads and stores, compares them, and maps one to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import LabelledShardsConfig
from tinyvit_kd.data.class_list import ClassList, class_map, load_class_list, parse_class_list
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, StoreError
from tinyvit_kd.models.modelfile import NetworkFacts
from tinyvit_kd.store.names import CLASS_LIST
from tinyvit_kd.store.store import LogitStore


def stored_classes(store: LogitStore) -> ClassList | None:
    """The class list that the dump wrote beside the manifest; None if the teacher's classes were not known.

    Raises:
        StoreError: the list is missing, or is not the one that the manifest names.
    """
    manifest = store.manifest
    if manifest.class_list is None:
        return None
    where = store.storage.locate(CLASS_LIST)
    try:
        text = store.read_class_list()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError("the store's class list cannot be read", where=where, found=str(error)) from None
    classes = None if text is None else parse_class_list(manifest.class_list, text, where)
    if classes is None or classes.hash != manifest.class_list_hash:
        raise StoreError(
            "the store's class list is missing or not the teacher's",
            where=where,
            found="no such file" if classes is None else f"hash {classes.hash}",
            expected=f"hash {manifest.class_list_hash} ({manifest.class_list})",
            fix="run dump-logits again: it writes the list",
        )
    return classes


def label_classes(config: LabelledShardsConfig, shards: ShardSet) -> ClassList | None:
    """The class list of a shard set's labels: the recipe's or, if it names none, the one beside the shards."""
    if config.class_list is not None:
        return load_class_list(config.class_list)
    return shards.class_list


def require_labelled(shards: ShardSet) -> None:
    """Check that at least one sample has a label.

    Raises:
        ConfigError: there are no labels.
    """
    if shards.largest_label() < 0:
        raise ConfigError(
            "the shards have no labels",
            where=shards.name,
            expected=".cls or .json members",
            fix="use labelled shards; pretrain needs none where loss.kind is soft or hard and loss.alpha is left out",
        )


def require_labels(shards: ShardSet, num_classes: int) -> None:
    """Check that the shards are labelled, and that every label is below ``num_classes``.

    Raises:
        ConfigError: there are no labels, or the largest one, which is named, is too large.
    """
    require_labelled(shards)
    if (largest := shards.largest_label()) >= num_classes:
        raise ConfigError(
            "a label is too large for the number of classes",
            where=shards.name,
            found=f"label {largest}",
            expected=f"at most {num_classes - 1}, for {num_classes} classes",
            fix="correct the class list (shards.class_list) or num_classes",
        )


def label_map(labels: ClassList | None, classes: ClassList | None, num_classes: int) -> npt.NDArray[np.int64] | None:
    """Map each class of the labels to its position in a head.

    Args:
        labels: the labels' class list; None if it is not known.
        classes: the head's class list; None if it is not known.
        num_classes: number of classes of the head.

    Returns:
        int64 [number of the labels' classes], -1 for classes that the head lacks. None if both lists are the same, or
        have to be taken for the same because one is not known.

    Raises:
        ConfigError: the head's classes are not known and differ from the labels' in number, or the head lacks more
            than half of the labels' classes.
    """
    if labels is None or (classes is not None and labels.ids == classes.ids):
        return None
    if classes is None:
        if len(labels.ids) == num_classes:
            return None
        raise ConfigError(
            "the labels have another number of classes than the network, whose classes are not known",
            found=f"{num_classes} classes in the network, {len(labels.ids)} in {labels.name}",
            fix="name the class list of the model (class_list) or of the teacher (teacher.class_list), for example "
            "imagenet22k",
        )
    positions = class_map(classes, labels)
    common = int((positions >= 0).sum())
    if common < 0.5 * len(positions):
        raise ConfigError(
            "fewer than half of the labels' classes are among the network's",
            found=f"{common} of {len(positions)} classes ({labels.name}) in {classes.name}",
            fix="check the class lists of the labelled shards and of the model or the teacher",
        )
    return positions


def card_classes(facts: NetworkFacts | None) -> ClassList | None:
    """The class list in a network's file; None if it has none."""
    if facts is None or facts.class_ids is None:
        return None
    return ClassList(facts.class_name or "its own", facts.class_ids)
