"""Finds the class lists of labels, heads and stores, compares them, and maps one to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.labels.class_list import ClassList, class_map, load_class_list, parse_class_list
from tinyvit_kd.errors import ConfigError, StoreError, said_by, what_to_do
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
        raise StoreError(
            "the store's class list cannot be read", where=where, found=said_by(error), fix=what_to_do(error, "")
        ) from error
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


def named_classes(class_list: str, num_classes: int, owner: str, where: str) -> ClassList:
    """The class list of a head, as a recipe names it.

    Args:
        class_list: name or path of the list.
        num_classes: of the head.
        owner: whose head that is, for messages.
        where: the field of the recipe.

    Raises:
        ConfigError: there is no such list, or it has another number of classes than the head.
    """
    classes = load_class_list(class_list)
    if len(classes.ids) != num_classes:
        raise ConfigError(
            "the network has another number of classes than its class list",
            where=where,
            found=f"{num_classes} classes in {owner}, {len(classes.ids)} in {classes.name}",
            fix="name the list that the network was trained with (timm's lists differ in number and order of classes)",
        )
    return classes


def card_classes(facts: NetworkFacts | None) -> ClassList | None:
    """The class list in a network's file; None if it has none."""
    if facts is None or facts.class_ids is None:
        return None
    return ClassList(facts.class_name or "its own", facts.class_ids)


def assumed_classes(labels: ClassList | None, classes: ClassList | None, owner: str) -> str | None:
    """A line for people where classes are taken for the same by their numbers, because a class list is missing.

    Args:
        labels: the labels' class list; None if it is not known.
        classes: the class list of the network or the teacher; None if it is not known.
        owner: whose classes these are, for example "the model".

    Returns:
        None where both lists are known, so that classes are compared by name.
    """
    if labels is not None and classes is not None:
        return None
    if labels is None and classes is None:
        return f"neither the labels nor {owner} has a class list: class i is taken to be the same in both"
    if labels is None:
        assert classes is not None
        return f"the labels have no class list: label i is taken for class i of {owner} ({classes.name})"
    return f"{owner} has no class list: its class i is taken for class i of the labels ({labels.name})"
